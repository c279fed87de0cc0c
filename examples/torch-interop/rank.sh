#!/bin/sh
# One rank of the job: rank 0 in Python, the others in Bun. A launcher sets RANK.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ "$RANK" = 0 ]; then exec "${PYTHON:-python3}" "$here/trainer.py"; fi
exec "${BUN:-bun}" "$here/evaluator.ts"
