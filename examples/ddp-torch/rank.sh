#!/bin/sh
# One rank of the job: every other one in Python, the rest in Bun. A launcher sets RANK; FIRST=bun makes rank 0 Bun's.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
case "$((RANK % 2))${FIRST:-python}" in
0python | 1bun) exec "${PYTHON:-python3}" "$here/trainer.py" ;;
*) exec "${BUN:-bun}" "$here/trainer.ts" ;;
esac
