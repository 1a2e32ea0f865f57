//! Random variations of training examples.

use rand::RngExt;

use crate::dataset::{Dataset, Features};
use crate::rng::TrainingRng;
use crate::tokenizer::{RANK_OFFSET, UNKNOWN_TOKEN};

/// How each example is varied each time that training uses it. Public settings, the same for every client; the variations are drawn from
/// the client's own generator of the round.
///
/// A variation makes another example out of one, so a clipped gradient is as long as before and no privacy argument changes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Augmentation {
    flip: bool,
    shift: usize,
    word_dropout: f64,
}

/// Why an [`Augmentation`] was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentationError {
    /// Images are flipped and moved, nothing else.
    #[error(
        "flips and shifts need examples of shape [height, width] or [channels, height, width], not {shape:?} of {features}"
    )]
    NoImages {
        /// The shape of an example.
        shape: Vec<usize>,
        /// What its values are.
        features: Features,
    },
    /// Words are dropped out of texts, nothing else.
    #[error("word dropout needs texts, not {features}")]
    NoTexts {
        /// What the values of an example are.
        features: Features,
    },
    /// An image could be moved out of sight.
    #[error("shift must be smaller than height and width, got {got} for {height} × {width} pixels")]
    Shift {
        /// Pixels to move.
        got: usize,
        /// Height of an image.
        height: usize,
        /// Width of an image.
        width: usize,
    },
    /// No probability, or one that leaves no word.
    #[error("word dropout must be at least 0 and below 1, got {got}")]
    WordDropout {
        /// The number that came.
        got: f64,
    },
}

impl Augmentation {
    /// Mirrors images left to right with probability 1/2.
    pub fn with_flip(self) -> Self {
        Self { flip: true, ..self }
    }

    /// Moves images by up to `shift` pixels up or down and left or right, each distance equally likely; what comes in is
    /// what a stored value of 0 becomes.
    pub fn with_shift(self, shift: usize) -> Self {
        Self { shift, ..self }
    }

    /// Makes each word unknown with probability `rate`.
    pub fn with_word_dropout(self, rate: f64) -> Result<Self, AugmentationError> {
        if !(0.0..1.0).contains(&rate) {
            return Err(AugmentationError::WordDropout { got: rate });
        }
        Ok(Self {
            word_dropout: rate,
            ..self
        })
    }

    /// Checks that the examples of `dataset` can be varied so.
    pub fn check(&self, dataset: &Dataset) -> Result<(), AugmentationError> {
        let features = dataset.features();
        if self.moves_pixels() {
            let (shape, Features::Dense) = (dataset.shape(), features) else {
                let shape = dataset.shape().to_vec();
                return Err(AugmentationError::NoImages { shape, features });
            };
            let [.., height, width] = *shape else {
                let shape = shape.to_vec();
                return Err(AugmentationError::NoImages { shape, features });
            };
            if self.shift >= height.min(width) {
                return Err(AugmentationError::Shift {
                    got: self.shift,
                    height,
                    width,
                });
            }
        }
        if self.word_dropout > 0.0 && features == Features::Dense {
            return Err(AugmentationError::NoTexts { features });
        }
        Ok(())
    }

    fn moves_pixels(&self) -> bool {
        self.flip || self.shift > 0
    }

    /// Varies gathered examples of a data set that passes [`check`](Self::check). Nothing is drawn where there is nothing to do.
    pub(crate) fn apply(&self, dataset: &Dataset, features: &mut [f32], rng: &mut TrainingRng) {
        if self.moves_pixels() {
            let [.., height, width] = *dataset.shape() else {
                return;
            };
            let black = -dataset.transform().mean() / dataset.transform().std_dev();
            for image in features.chunks_exact_mut(dataset.n_features()) {
                self.vary_image(image, [height, width], black, rng);
            }
        }
        if self.word_dropout > 0.0 {
            drop_words(features, self.word_dropout, rng);
        }
    }

    fn vary_image(&self, image: &mut [f32], [height, width]: [usize; 2], black: f32, rng: &mut TrainingRng) {
        if self.flip && rng.random::<bool>() {
            image.chunks_exact_mut(width).for_each(<[f32]>::reverse);
        }
        if self.shift > 0 {
            let mut distance = || rng.random_range(0..=2 * self.shift);
            let (down, right) = (distance(), distance());
            for plane in image.chunks_exact_mut(height * width) {
                // Whole rows first, then each row by itself: both are moves within one slice.
                shift(plane, down, self.shift, width, black);
                for row in plane.chunks_exact_mut(width) {
                    shift(row, right, self.shift, 1, black);
                }
            }
        }
    }
}

/// Moves `values` by `distance - zero` steps of `step` values towards the end, and fills what comes in.
fn shift(values: &mut [f32], distance: usize, zero: usize, step: usize, fill: f32) {
    let length = values.len();
    if distance >= zero {
        let by = (distance - zero) * step;
        values.copy_within(..length - by, by);
        values[..by].fill(fill);
    } else {
        let by = (zero - distance) * step;
        values.copy_within(by.., 0);
        values[length - by..].fill(fill);
    }
}

/// Makes words unknown. Padding and the start of a text stay.
#[allow(clippy::cast_precision_loss, reason = "small whole numbers")]
fn drop_words(tokens: &mut [f32], rate: f64, rng: &mut TrainingRng) {
    for token in tokens.iter_mut().filter(|token| **token > RANK_OFFSET as f32) {
        if rng.random_bool(rate) {
            *token = UNKNOWN_TOKEN as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::reader::{LabelValues, TextTable, read_vocabulary};
    use crate::test_files::write;
    use crate::tokenizer::Tokenizer;
    use crate::transform::Transform;

    fn rng(seed: u8) -> TrainingRng {
        TrainingRng::from_seed([seed; 32])
    }

    fn image() -> Dataset {
        let values = (1_u8..=12).map(f32::from).collect();
        Dataset::from_values("images", &[2, 2, 3], values, vec![0], 2).unwrap()
    }

    fn varied(augmentation: Augmentation, dataset: &Dataset, rng: &mut TrainingRng) -> Vec<f32> {
        augmentation.check(dataset).unwrap();
        let (mut features, mut labels) = (vec![0.0; dataset.n_features()], [0]);
        dataset.gather(&[0], &mut features, &mut labels);
        augmentation.apply(dataset, &mut features, rng);
        features
    }

    #[test]
    fn half_of_the_images_are_mirrored() {
        let (image, mut rng) = (image(), rng(1));
        let mirrored = [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0, 12.0, 11.0, 10.0];
        let mut count = 0;
        for _ in 0..1000 {
            match varied(Augmentation::default().with_flip(), &image, &mut rng) {
                features if features == mirrored => count += 1,
                features => assert_eq!(features, varied(Augmentation::default(), &image, &mut rng)),
            }
        }
        // 1000 fair coins: six standard deviations are 95, a false alarm has a chance below 1e-8, and the seed is fixed.
        assert!((405..=595).contains(&count), "{count}");
    }

    #[test]
    fn images_move_every_way_and_black_comes_in() {
        let image = image()
            .with_transform(Transform::new(1, 0.5, 2.0).unwrap())
            .unwrap();
        let augmentation = Augmentation::default().with_shift(1);
        let mut rng = rng(2);
        let pixel = |value: f32| (value - 0.5) / 2.0;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let features = varied(augmentation, &image, &mut rng);
            // The plane's pixel at (0, 1) stays in sight when it moves sideways, and tells where everything went.
            let moves = [
                (-1_i32, -1_i32),
                (-1, 0),
                (-1, 1),
                (0, -1),
                (0, 0),
                (0, 1),
                (1, -1),
                (1, 0),
                (1, 1),
            ];
            let expected = |(down, right): (i32, i32)| -> Vec<f32> {
                let value = |plane: i32, row: i32, column: i32| {
                    let (row, column) = (row - down, column - right);
                    let inside = (0..2).contains(&row) && (0..3).contains(&column);
                    let stored = u8::try_from(plane * 6 + row * 3 + column + 1).unwrap_or(0);
                    pixel(if inside { f32::from(stored) } else { 0.0 })
                };
                (0..12)
                    .map(|place| value(place / 6, place % 6 / 3, place % 3))
                    .collect()
            };
            let is_same =
                |expected: &[f32]| expected.iter().zip(&features).all(|(a, b)| (a - b).abs() < 1e-6);
            let found = moves.into_iter().find(|&by| is_same(&expected(by)));
            seen.insert(found.expect("one of the nine moves"));
        }
        assert_eq!(seen.len(), 9, "{seen:?}");
    }

    #[test]
    fn words_are_dropped_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let vocabulary = read_vocabulary(&write(folder.path(), "words", b"a\nb\n")).unwrap();
        let tokenizer = Tokenizer::new(vocabulary, 10, 2000).unwrap();
        let labels = LabelValues::Numbers { n_classes: Some(2) };
        let table = TextTable {
            tokens: std::iter::once(1)
                .chain([4, 5].into_iter().cycle().take(1000))
                .collect(),
            offsets: vec![0, 1001],
            labels: vec![1],
            clients: None,
        };
        let dataset = Dataset::from_texts("texts", table, &tokenizer, &labels).unwrap();
        let augmentation = Augmentation::default().with_word_dropout(0.25).unwrap();
        let features = varied(augmentation, &dataset, &mut rng(3));
        let count = |token: f32| {
            features
                .iter()
                .filter(|value| (**value - token).abs() < 0.5)
                .count()
        };
        assert_eq!(
            (count(0.0), count(1.0), count(2.0) + count(4.0) + count(5.0)),
            (999, 1, 1000)
        );
        // 1000 coins of 1/4: six standard deviations are 82.
        assert!((168..=332).contains(&count(2.0)), "{}", count(2.0));
    }

    #[test]
    fn nothing_is_drawn_where_nothing_is_varied() {
        let mut used = rng(4);
        varied(Augmentation::default(), &image(), &mut used);
        assert_eq!(used.next_u64(), rng(4).next_u64());
    }

    #[test]
    fn what_cannot_be_varied_is_refused() {
        let check = |augmentation: Augmentation, shape: &[usize], expected: &str| {
            let values = vec![0.0; shape.iter().product()];
            let dataset = Dataset::from_values("it", shape, values, vec![0], 2).unwrap();
            assert_eq!(augmentation.check(&dataset).unwrap_err().to_string(), expected);
        };
        let none = Augmentation::default();
        check(
            none.with_flip(),
            &[4],
            "flips and shifts need examples of shape [height, width] or [channels, height, width], not [4] of numbers",
        );
        check(
            none.with_shift(3),
            &[5, 3],
            "shift must be smaller than height and width, got 3 for 5 × 3 pixels",
        );
        check(
            none.with_word_dropout(0.1).unwrap(),
            &[4, 4],
            "word dropout needs texts, not numbers",
        );
        for rate in [-0.1, 1.0, f64::NAN] {
            assert!(none.with_word_dropout(rate).is_err());
        }
    }
}
