#!/usr/bin/env python3
"""Makes the files of this folder from the full MNIST files and their writers.

    python3 make.py SOURCE_FOLDER

SOURCE_FOLDER holds the four original MNIST files (gzipped IDX) and writers_train.tsv.gz with the columns
index, label, writer and hsf, taken from the QMNIST labels. Of every writer of the training set the first 48 images
in file order are kept; the test set is kept whole. Needs nothing beside Python; `pip install zopfli` makes the
files about 4 % smaller.
"""

import collections
import gzip
import pathlib
import struct
import sys

MOST_IMAGES = 48

try:
    import zopfli.gzip

    def pack(content):
        return zopfli.gzip.compress(content, numiterations=5)
except ImportError:

    def pack(content):
        return gzip.compress(content, compresslevel=9, mtime=0)


def main():
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
    images = gzip.decompress((source / "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((source / "train-labels-idx1-ubyte.gz").read_bytes())
    table = gzip.decompress((source / "writers_train.tsv.gz").read_bytes()).decode()
    header, *rows = [line.split("\t") for line in table.splitlines()]
    writer, hsf = header.index("writer"), header.index("hsf")

    seen, kept = collections.Counter(), []
    for index, row in enumerate(rows):
        seen[row[writer]] += 1
        if seen[row[writer]] <= MOST_IMAGES:
            kept.append(index)

    size = 28 * 28
    some_images = b"".join(images[16 + i * size : 16 + (i + 1) * size] for i in kept)
    some_labels = bytes(labels[8 + i] for i in kept)
    lines = ["writer\thsf"] + [f"{rows[i][writer]}\t{rows[i][hsf]}" for i in kept]
    files = {
        "train-images-idx3-ubyte.gz": struct.pack(">IIII", 0x803, len(kept), 28, 28) + some_images,
        "train-labels-idx1-ubyte.gz": struct.pack(">II", 0x801, len(kept)) + some_labels,
        "writers_train.tsv.gz": ("\n".join(lines) + "\n").encode(),
    }
    for name in ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]:
        files[name] = gzip.decompress((source / name).read_bytes())
    for name, content in files.items():
        (target / name).write_bytes(pack(content))
        print(f"{name}: {(target / name).stat().st_size:,} bytes")
    print(f"{len(kept)} images of {len(seen)} writers")


main()
