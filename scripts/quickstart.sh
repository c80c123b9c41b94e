#!/usr/bin/env bash
# The main job on the CPU, from nothing: sets up and builds (once), then linearizes the small pretrained Llama of examples/ with
# the recipe tigon, trains LoRA on it, evaluates, exports, and generates a sentence from the exported folder. Beside it a plain
# window that keeps as many bytes is trained alike. The numbers it prints come from the runs' run.json.
#
#   scripts/quickstart.sh [folder for the run, default runs/quickstart]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run=${1:-runs/quickstart}
window=$run-window
scripts/setup.sh

for folder in "$run" "$window"; do
  if [ -e "$folder" ]; then
    old="$folder.$(date +%Y%m%d-%H%M%S)"
    echo "[quickstart] keeping the earlier run as $old" >&2
    mv "$folder" "$old"
  fi
done

echo "[quickstart] teacher → converted → LoRA → evaluated → exported (configs/train/quickstart.yaml)" >&2
build/tigon train configs/train/quickstart.yaml "run.folder=$run"
echo "[quickstart] the line to beat: a plain window of as many bytes, trained on as many tokens" >&2
build/tigon train configs/train/quickstart.yaml "run.folder=$window" "linearize={recipe: window, window_keys: 129}" export=null

echo
python3 scripts/quickstart_table.py "$run" "$window"
echo
echo "A sentence from the exported model, with constant memory (build/tigon generate --model $run/export --prompt …):"
build/tigon generate -q --model "$run/export" --prompt "The old man looked at the sea and" --max-new-tokens 40 --temperature 0.8 --top-p 0.95 --seed 1
