//! The data sets that examples and documentation speak of.

/// What is known of a data set.
#[derive(Debug)]
pub(super) struct DataSet {
    pub(super) name: &'static str,
    pub(super) task: &'static str,
    pub(super) examples: &'static str,
    /// What a natural client is.
    pub(super) clients: &'static str,
    pub(super) size: &'static str,
    pub(super) licence: &'static str,
    /// Where it comes from.
    pub(super) source: &'static str,
    /// Where it lies in this repository, if it does.
    pub(super) shipped: Option<&'static str>,
    /// Its files with their SHA-256.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// How to get it.
    pub(super) instructions: &'static str,
}

pub(super) const DATA_SETS: &[DataSet] = &[
    DataSet {
        name: "adult",
        task: "income above 50,000 dollars a year, from a census",
        examples: "32,561 train, 16,281 test; 14 columns, some fields missing (`?`)",
        clients: "none; occupation or country for a natural split",
        size: "0.6 MB gzipped",
        licence: "CC BY 4.0 (Becker, Kohavi 1996)",
        source: "UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/2/adult",
        shipped: None,
        files: &[],
        instructions: "\
Download adult.data and adult.test from the source. They have no header: name their columns in `data.column_names`. The first
line of adult.test is no data and must be removed; its labels end in a full stop, so declare both ways to write them:
label_values = [[\"<=50K\", \"<=50K.\"], [\">50K\", \">50K.\"]]",
    },
    DataSet {
        name: "heart",
        task: "heart disease, yes or no",
        examples: "740 complete patients of 920; 10 columns used",
        clients: "hospital: 4 (303, 261, 46 and 130 patients)",
        size: "35 kB",
        licence: "CC BY 4.0 (Janosi, Steinbrunn, Pfisterer, Detrano 1988)",
        source: "UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/45/heart+disease",
        shipped: Some("examples/heart/data"),
        files: &[
            (
                "processed.cleveland.data",
                "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
            ),
            (
                "processed.hungarian.data",
                "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
            ),
            (
                "processed.switzerland.data",
                "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
            ),
            (
                "processed.va.data",
                "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
            ),
        ],
        instructions: "\
The example needs nothing else. The four files processed.*.data of the source, with the checksums above, are what it was
made from; examples/heart/data/README.md says how.",
    },
    DataSet {
        name: "imdb",
        task: "film reviews, negative or positive",
        examples: "25,000 train, 25,000 test, balanced",
        clients: "none by reviewer; film (3,456 in train)",
        size: "26 MB gzipped",
        licence: "none stated; for research, cite Maas et al. 2011; may not be redistributed",
        source: "https://ai.stanford.edu/~amaas/data/sentiment/ (aclImdb_v1.tar.gz)",
        shipped: None,
        files: &[],
        instructions: "\
Download and unpack aclImdb_v1.tar.gz from the source. Write each of its two halves as a table with a header line
`label<TAB>id<TAB>rating<TAB>movie<TAB>text`, a review a line, with tabs and line ends in reviews replaced by spaces:
label 1 for the folder pos and 0 for neg; id and rating from the file's name. The columns label and text are enough.
examples/sentiment/README.md has a command that does it, and says how the public list of words is made.",
    },
    DataSet {
        name: "mnist",
        task: "handwritten digits, 28 × 28 pixels",
        examples: "60,000 train, 10,000 test",
        clients: "writer: 539 in train, 297 others in test",
        size: "12 MB gzipped",
        licence: "CC BY-SA 3.0 as commonly stated (LeCun, Cortes, Burges); writers: BSD-3 (QMNIST)",
        source: "mirrors of http://yann.lecun.com/exdb/mnist, and https://github.com/facebookresearch/qmnist for the writers",
        shipped: Some("examples/digits/data has half of it"),
        files: &[
            (
                "train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ],
        instructions: "\
Download the four files from a mirror and check them with `umbel data fetch mnist --from FOLDER --to FOLDER`.
The writer of each image is in QMNIST's qmnist-train-labels-idx2-int.gz (third column), in the order of the images; write
it as a table with a header line and a column `writer`.",
    },
];

#[cfg(test)]
mod tests {
    use super::DATA_SETS;

    #[test]
    fn names_are_unique_and_checksums_whole() {
        for (place, set) in DATA_SETS.iter().enumerate() {
            assert!(
                DATA_SETS[..place].iter().all(|other| other.name < set.name),
                "{}",
                set.name
            );
            for (name, sha256) in set.files {
                let is_hex = sha256.bytes().all(|digit| digit.is_ascii_hexdigit());
                assert!(is_hex && sha256.len() == 64, "{name}");
            }
        }
    }
}
