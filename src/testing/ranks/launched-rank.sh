# Runs a rank that a launcher started, as `sh launched-rank.sh <command…>`. Its output and its exit code go to files,
# since a launcher mixes the output of ranks and does not pass on their exit codes.
at=$C10D_RANK_FOLDER/${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${SLURM_PROCID:-0}}}
"$@" >"$at.out" 2>"$at.err"
code=$?
echo $code >"$at.exit"
exit $code
