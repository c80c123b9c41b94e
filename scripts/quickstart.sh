#!/usr/bin/env bash
# The main job on the CPU, from nothing: sets up and builds (once), then linearizes the small pretrained Llama of examples/ with
# Liger-GLA, trains LoRA on it, evaluates, exports, and generates a sentence from the exported folder. The numbers it prints
# come from the run's run.json.
#
#   scripts/quickstart.sh [folder for the run, default runs/quickstart]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run=${1:-runs/quickstart}
scripts/setup.sh

if [ -e "$run" ]; then
  old="$run.$(date +%Y%m%d-%H%M%S)"
  echo "[quickstart] keeping the earlier run as $old" >&2
  mv "$run" "$old"
fi

echo "[quickstart] teacher → converted → LoRA → evaluated → exported (configs/train/quickstart.yaml)" >&2
build/tigon train configs/train/quickstart.yaml "run.folder=$run"

echo
python3 scripts/quickstart_table.py "$run"
echo
echo "A sentence from the exported model, with constant memory (build/tigon generate --model $run/export --prompt …):"
build/tigon generate -q --model "$run/export" --prompt "The old man looked at the sea and" --max-new-tokens 40 --temperature 0.8 --top-p 0.95 --seed 1
