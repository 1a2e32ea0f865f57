//! A small task in the formats that the program reads.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Side of the images.
pub(crate) const SIDE: usize = 8;

/// Number of classes.
pub(crate) const N_CLASSES: usize = 4;

/// Images of [`SIDE`] × [`SIDE`] pixels in an IDX file: the quarter that belongs to the label is bright, the rest is dark,
/// everything with noise, so that a linear model learns it well but not at once.
pub(crate) fn idx_images(labels: &[u8], seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut values = Vec::with_capacity(labels.len() * SIDE * SIDE);
    for label in labels {
        for pixel in 0..SIDE * SIDE {
            let (row, column) = (pixel / SIDE, pixel % SIDE);
            let quarter = 2 * (row / (SIDE / 2)) + column / (SIDE / 2);
            let base = if quarter == usize::from(*label) { 120 } else { 40 };
            values.push(base + numbers.below(120));
        }
    }
    let side = u32::try_from(SIDE).unwrap();
    idx(&[u32::try_from(labels.len()).unwrap(), side, side], &values)
}

/// Labels in an IDX file.
pub(crate) fn idx_labels(labels: &[u8]) -> Vec<u8> {
    idx(&[u32::try_from(labels.len()).unwrap()], labels)
}

/// An IDX file of bytes.
pub(crate) fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, u8::try_from(shape.len()).unwrap()];
    shape.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend(values);
    file
}

/// `count` labels below [`N_CLASSES`], each class about equally often.
pub(crate) fn labels(count: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let n_classes = u8::try_from(N_CLASSES).unwrap();
    (0..count).map(|_| numbers.below(n_classes)).collect()
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Repeatable numbers (SplitMix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        u8::try_from(self.next() % u64::from(bound)).unwrap()
    }
}
