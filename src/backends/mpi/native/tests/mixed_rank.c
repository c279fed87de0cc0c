/* A rank of the mixed job of mixed.test.ts: what Bun's ranks do with dist.*, in C. Non-blocking calls, like theirs. */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int rank, size;

static void check(int holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "C rank %d: wrong result of %s\n", rank, what);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

static void all_reduce(void) {
  float values[5];
  MPI_Request request;
  for (int i = 0; i < 5; i++) values[i] = (float)((rank + 1) * (i + 1));
  MPI_Iallreduce(MPI_IN_PLACE, values, 5, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  for (int i = 0; i < 5; i++) check(values[i] == (float)(size * (size + 1) / 2 * (i + 1)), "all-reduce");
}

static void broadcast(void) {
  for (int root = 0; root < size; root++) {
    int32_t values[4];
    MPI_Request request;
    for (int i = 0; i < 4; i++) values[i] = rank == root ? root * 10 + i : -1;
    MPI_Ibcast(values, 4, MPI_INT32_T, root, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    for (int i = 0; i < 4; i++) check(values[i] == root * 10 + i, "broadcast");
  }
}

static void all_to_all(void) {
  int32_t* sent = malloc(sizeof(int32_t) * 2 * (size_t)size);
  int32_t* received = malloc(sizeof(int32_t) * 2 * (size_t)size);
  MPI_Request request;
  for (int i = 0; i < 2 * size; i++) sent[i] = rank * 100 + i;
  MPI_Ialltoall(sent, 2, MPI_INT32_T, received, 2, MPI_INT32_T, MPI_COMM_WORLD, &request);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  for (int i = 0; i < 2 * size; i++) check(received[i] == i / 2 * 100 + rank * 2 + i % 2, "all-to-all");
  free(sent);
  free(received);
}

static void round_the_ring(void) {
  const int next = (rank + 1) % size;
  const int previous = (rank + size - 1) % size;
  double sent[3] = {rank, rank + 0.5, -rank};
  double received[3];
  MPI_Sendrecv(sent, 3, MPI_DOUBLE, next, 7, received, 3, MPI_DOUBLE, previous, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  check(received[0] == previous && received[1] == previous + 0.5 && received[2] == -previous, "send and recv");
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  all_reduce();
  broadcast();
  all_to_all();
  round_the_ring();
  printf("C rank %d of %d: well\n", rank, size);
  MPI_Finalize();
  return 0;
}
