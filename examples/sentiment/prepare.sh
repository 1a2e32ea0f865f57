#!/bin/sh
# Makes the tables that the experiments here read, in data/:
#   train.tsv.gz, test.tsv.gz   all reviews
#   fit.tsv.gz, valid.tsv.gz    train again, every fifth review in valid: settings are chosen on it, never on test
#   train-words.txt.gz          words of the training reviews by falling count, for keras.toml only: NOT public, see README.md
#
#   sh prepare.sh FOLDER
#
# FOLDER is the unpacked aclImdb_v1.tar.gz (with train/pos, train/neg, test/pos, test/neg), or holds train.tsv.gz and test.tsv.gz
# with a header line that names columns `label` and `text`.
set -eu
from=${1:?"usage: sh prepare.sh FOLDER"}
to=$(dirname "$0")/data
mkdir -p "$to"

# One review a line; tabs and line ends inside one become spaces, which gives the same words.
table() {
  printf 'label\ttext\n'
  for label in 1 0; do
    folder=$([ "$label" = 1 ] && echo pos || echo neg)
    find "$from/$1/$folder" -name '*.txt' | sort | while read -r file; do
      printf '%s\t' "$label"
      tr '\t\r\n' '   ' < "$file"
      printf '\n'
    done
  done
}

for half in train test; do
  if [ -f "$from/$half.tsv.gz" ]; then
    cp "$from/$half.tsv.gz" "$to/$half.tsv.gz"
    chmod u+w "$to/$half.tsv.gz"
  elif [ -d "$from/$half/pos" ]; then
    table "$half" | gzip -n > "$to/$half.tsv.gz"
  else
    echo "$from has neither $half.tsv.gz nor $half/pos" >&2
    exit 1
  fi
done
gzip -dc "$to/train.tsv.gz" | awk 'NR == 1 || (NR - 1) % 5 != 0' | gzip -n > "$to/fit.tsv.gz"
gzip -dc "$to/train.tsv.gz" | awk 'NR == 1 || (NR - 1) % 5 == 0' | gzip -n > "$to/valid.tsv.gz"
# Keras' tokenizer, but that capitals outside ASCII stay.
gzip -dc "$to/train.tsv.gz" | tail -n +2 | awk -F '\t' '{ print $NF }' | LC_ALL=C tr 'A-Z!"#$%&()*+,./:;<=>?@[\\]^_`{|}~-' 'a-z                                    ' |
  tr -s ' ' '\n' | grep . | LC_ALL=C sort | uniq -c | LC_ALL=C sort -k1,1nr -k2 | awk '{ print $2 }' | gzip -n > "$to/train-words.txt.gz"
for table in train test fit valid; do
  echo "$table: $(($(gzip -dc "$to/$table.tsv.gz" | wc -l) - 1)) reviews"
done
