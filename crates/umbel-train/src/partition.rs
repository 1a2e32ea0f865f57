//! Which client holds which examples.

mod by_key;
mod dirichlet;
mod iid;
mod summary;

use std::borrow::Cow;

pub use self::summary::{ClientLabels, HistogramBin, LABELLED_CLIENTS, PartitionSummary};
use crate::dataset::{DataError, Dataset};
use crate::reader::ClientKeys;
use crate::rng::TrainingRng;

/// A division of a data set over clients: every example belongs to exactly one client, except those left out by a
/// limit on examples a client.
///
/// Held as one list of example indices and where each client begins in it, so that a million clients cost little
/// more than the examples themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    names: ClientNames,
    /// Client c holds `indices[offsets[c]..offsets[c + 1]]`.
    offsets: Vec<u32>,
    indices: Vec<u32>,
    n_left_out: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ClientNames {
    Keys(Vec<String>),
    Numbers,
}

/// How to divide a data set.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PartitionSpec {
    /// One client for each key of a file, in the order of the sorted keys; of a client with more than `max_examples`
    /// the first ones in file order are kept.
    ByKey {
        /// The most examples of one client.
        max_examples: Option<usize>,
    },
    /// Label skew after Yurochkin et al. 2019 and NIID-bench (Li et al. 2022): the examples of each class are divided
    /// in proportions drawn from a symmetric Dirichlet distribution.
    Dirichlet {
        /// Concentration: near 0 each class goes to few clients, large values come close to [`Iid`](Self::Iid).
        alpha: f64,
        /// How many clients.
        clients: usize,
    },
    /// A uniformly random division into parts whose sizes differ by at most one.
    Iid {
        /// How many clients.
        clients: usize,
    },
}

/// Why a data set cannot be divided so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The Dirichlet concentration is not a finite number above 0.
    #[error("partition alpha must be a finite number above 0, got {got}")]
    Alpha {
        /// The number that came.
        got: f64,
    },
    /// The number of clients is 0, or beyond what can be numbered.
    #[error("partition clients must be from 1 to {}, got {got}", u32::MAX)]
    Clients {
        /// The number that came.
        got: usize,
    },
    /// The keys do not belong to the data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No client could hold an example.
    #[error("partition max_examples must be at least 1, got 0")]
    MaxExamples,
    /// A division by key without keys.
    #[error("a partition by key needs a file of client keys")]
    NoKeys,
}

impl PartitionSpec {
    /// Divides `dataset`. Only [`ByKey`](Self::ByKey) reads `keys`; only the others draw from `rng`.
    pub fn partition(
        &self,
        dataset: &Dataset,
        keys: Option<&ClientKeys>,
        rng: &mut TrainingRng,
    ) -> Result<Partition, PartitionError> {
        match *self {
            Self::ByKey { max_examples } => {
                let keys = keys.ok_or(PartitionError::NoKeys)?;
                dataset.check_keys(keys)?;
                Partition::by_key(keys, max_examples)
            }
            Self::Dirichlet { alpha, clients } => {
                Partition::dirichlet(dataset.labels(), dataset.n_classes(), clients, alpha, rng)
            }
            Self::Iid { clients } => Partition::iid(dataset.n_examples(), clients, rng),
        }
    }
}

impl Partition {
    /// How many clients there are, those without examples included.
    pub fn n_clients(&self) -> usize {
        self.offsets.len() - 1
    }

    /// How many examples all clients hold together.
    pub fn n_examples(&self) -> usize {
        self.indices.len()
    }

    /// How many examples no client holds, because of a limit on examples a client.
    pub fn n_left_out(&self) -> usize {
        self.n_left_out
    }

    /// The examples of one client, as indices into the data set; none for a client without data.
    ///
    /// # Panics
    ///
    /// Where `client` is not below [`n_clients`](Self::n_clients).
    pub fn examples(&self, client: usize) -> &[u32] {
        &self.indices[self.offsets[client] as usize..self.offsets[client + 1] as usize]
    }

    /// The key of one client; where clients have no keys, its number.
    ///
    /// # Panics
    ///
    /// Where `client` is not below [`n_clients`](Self::n_clients).
    pub fn name(&self, client: usize) -> Cow<'_, str> {
        assert!(
            client < self.n_clients(),
            "client {client} of {}",
            self.n_clients()
        );
        match &self.names {
            ClientNames::Keys(keys) => Cow::Borrowed(&keys[client]),
            ClientNames::Numbers => Cow::Owned(client.to_string()),
        }
    }

    /// Gathers examples by client, in increasing order of index, given the client of every example.
    fn from_clients(names: ClientNames, n_clients: usize, clients: &[u32]) -> Self {
        // Counting sort: `offsets[c + 1]` counts client c, then the sums say where each client ends.
        let mut offsets = vec![0_u32; n_clients + 1];
        for &client in clients {
            offsets[client as usize + 1] += 1;
        }
        for client in 0..n_clients {
            offsets[client + 1] += offsets[client];
        }
        let mut next = offsets.clone();
        let mut indices = vec![0; clients.len()];
        for (index, &client) in (0..).zip(clients) {
            let slot = &mut next[client as usize];
            indices[*slot as usize] = index;
            *slot += 1;
        }
        Self {
            names,
            offsets,
            indices,
            n_left_out: 0,
        }
    }
}

fn check_clients(n_clients: usize) -> Result<(), PartitionError> {
    match u32::try_from(n_clients) {
        Ok(1..) => Ok(()),
        _ => Err(PartitionError::Clients { got: n_clients }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reader::read_client_keys;
    use crate::test_files::write;

    fn rng(seed: u8) -> TrainingRng {
        TrainingRng::from_seed([seed; 32])
    }

    fn keys(rows: &[&str]) -> ClientKeys {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("writer\n{}\n", rows.join("\n"));
        read_client_keys(&write(folder.path(), "keys", text.as_bytes()), None).unwrap()
    }

    fn sizes(partition: &Partition) -> Vec<usize> {
        (0..partition.n_clients())
            .map(|client| partition.examples(client).len())
            .collect()
    }

    /// Every example belongs to exactly one client.
    fn assert_complete(partition: &Partition, n_examples: usize) {
        let mut owners = vec![0; n_examples];
        for client in 0..partition.n_clients() {
            for &example in partition.examples(client) {
                owners[example as usize] += 1;
            }
        }
        assert!(owners.iter().all(|&owners| owners == 1), "{owners:?}");
        assert_eq!((partition.n_examples(), partition.n_left_out()), (n_examples, 0));
    }

    #[test]
    fn a_partition_by_key_follows_the_keys() {
        let partition = Partition::by_key(&keys(&["b", "a", "b", "c", "b"]), None).unwrap();
        assert_complete(&partition, 5);
        let clients: Vec<(String, &[u32])> = (0..3)
            .map(|client| (partition.name(client).into_owned(), partition.examples(client)))
            .collect();
        let expected = [
            ("a".to_owned(), &[1][..]),
            ("b".to_owned(), &[0, 2, 4]),
            ("c".to_owned(), &[3]),
        ];
        assert_eq!(clients, expected);
    }

    #[test]
    fn a_limit_keeps_the_first_examples_of_each_client() {
        let keys = keys(&["b", "a", "b", "c", "b"]);
        let partition = Partition::by_key(&keys, Some(2)).unwrap();
        assert_eq!(partition.examples(1), [0, 2]);
        assert_eq!((partition.n_examples(), partition.n_left_out()), (4, 1));
        assert_eq!(partition.examples(2), [3]);
        assert!(matches!(
            Partition::by_key(&keys, Some(0)),
            Err(PartitionError::MaxExamples)
        ));
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let message = |result: Result<Partition, PartitionError>| result.unwrap_err().to_string();
        assert_eq!(
            message(Partition::iid(10, 0, &mut rng(1))),
            "partition clients must be from 1 to 4294967295, got 0"
        );
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let message = message(Partition::dirichlet(&[0, 1], 2, 2, alpha, &mut rng(1)));
            assert!(
                message.starts_with("partition alpha must be a finite number above 0"),
                "{message}"
            );
        }
        let dataset = Dataset::from_values("it", &[1], vec![0.0; 2], vec![0, 1], 2).unwrap();
        let spec = PartitionSpec::ByKey { max_examples: None };
        let result = spec.partition(&dataset, None, &mut rng(1));
        assert_eq!(message(result), "a partition by key needs a file of client keys");
        let result = spec.partition(&dataset, Some(&keys(&["a", "b", "c"])), &mut rng(1));
        assert!(message(result).starts_with("it has 2 examples, but "));
    }

    #[test]
    fn the_same_seed_gives_the_same_partition() {
        let labels: Vec<u32> = (0..10).cycle().take(500).collect();
        let dirichlet = |seed| Partition::dirichlet(&labels, 10, 7, 0.5, &mut rng(seed)).unwrap();
        assert_eq!(dirichlet(1), dirichlet(1));
        assert_ne!(dirichlet(1), dirichlet(2));
        let iid = |seed| Partition::iid(500, 7, &mut rng(seed)).unwrap();
        assert_eq!(iid(1), iid(1));
        assert_ne!(iid(1), iid(2));
    }

    /// For each class the variance of one client's share is (1/n)(1 - 1/n) / (n alpha + 1), by the moments of the
    /// symmetric Dirichlet distribution. The mean of 4000 squared deviations has a relative standard deviation of at
    /// most 3 % for these alphas (from the fourth moments of the Beta distributions), so 18 % is six of them: the
    /// false-alarm probability is below 1e-6, and the seed is fixed.
    #[test]
    fn dirichlet_shares_have_their_variance() {
        let (n_clients, n_classes, each) = (4, 4000, 1000);
        let labels: Vec<u32> = (0..4000)
            .flat_map(|class| std::iter::repeat_n(class, each))
            .collect();
        for alpha in [0.1, 1.0, 10.0] {
            let partition = Partition::dirichlet(&labels, n_classes, n_clients, alpha, &mut rng(3)).unwrap();
            let mut counts = vec![0.0; n_classes];
            for &example in partition.examples(1) {
                counts[labels[example as usize] as usize] += 1.0;
            }
            let mean_square: f64 = counts
                .iter()
                .map(|count| (count / each as f64 - 0.25_f64).powi(2))
                .sum::<f64>()
                / n_classes as f64;
            let expected = 0.25 * 0.75 / (4.0 * alpha + 1.0);
            assert!(
                (mean_square / expected - 1.0).abs() < 0.3,
                "alpha {alpha}: {mean_square} for {expected}"
            );
        }
    }

    #[test]
    fn a_tiny_alpha_gives_each_class_to_one_client() {
        let labels: Vec<u32> = (0..10).cycle().take(1000).collect();
        for alpha in [1e-6, 1e-300, f64::MIN_POSITIVE / 1e10] {
            let partition = Partition::dirichlet(&labels, 10, 50, alpha, &mut rng(4)).unwrap();
            assert_complete(&partition, 1000);
            assert!(
                sizes(&partition).iter().all(|size| size % 100 == 0),
                "{:?}",
                sizes(&partition)
            );
        }
    }

    #[test]
    fn a_summary_counts_clients_and_labels() {
        let keys = keys(&["a", "a", "a", "b", "c", "c", "d", "a"]);
        let summary = Partition::by_key(&keys, None)
            .unwrap()
            .summary(&[0, 1, 1, 1, 0, 0, 1, 0], 2);
        assert_eq!(
            (summary.n_clients, summary.n_examples, summary.n_without_examples),
            (4, 8, 0)
        );
        assert_eq!((summary.min_examples, summary.max_examples), (1, 4));
        assert!((summary.median_examples - 1.5).abs() < 1e-12 && (summary.mean_examples - 2.0).abs() < 1e-12);
        let bins: Vec<(usize, usize, usize)> = summary
            .histogram
            .iter()
            .map(|bin| (bin.first, bin.last, bin.n_clients))
            .collect();
        assert_eq!(bins, [(1, 1, 2), (2, 2, 1), (3, 3, 0), (4, 4, 1)]);
        assert_eq!(
            summary.labels[0],
            ClientLabels {
                name: "a".to_owned(),
                counts: vec![2, 2]
            }
        );
        assert_eq!(
            summary.labels[2],
            ClientLabels {
                name: "c".to_owned(),
                counts: vec![2, 0]
            }
        );
    }

    #[test]
    fn a_summary_shows_the_first_fifty_clients_and_few_bins() {
        let partition = Partition::dirichlet(&[0; 5000], 1, 80, 0.3, &mut rng(5)).unwrap();
        let summary = partition.summary(&[0; 5000], 1);
        assert_eq!(summary.labels.len(), 50);
        assert!(summary.histogram.len() <= 20);
        assert_eq!(
            summary.histogram.iter().map(|bin| bin.n_clients).sum::<usize>(),
            80
        );
        assert_eq!(summary.histogram[0].first, summary.min_examples);
        assert!(
            summary
                .histogram
                .windows(2)
                .all(|pair| pair[0].last + 1 == pair[1].first)
        );
        assert!(summary.histogram.last().unwrap().last >= summary.max_examples);
        assert_eq!(
            summary.n_without_examples,
            sizes(&partition).iter().filter(|&&size| size == 0).count()
        );
    }

    proptest! {
        #[test]
        fn every_example_goes_to_exactly_one_client(
            labels in proptest::collection::vec(0..5_u32, 1..200),
            n_clients in 1..300_usize,
            alpha in prop_oneof![0.001..1.0_f64, 1.0..1000.0_f64],
            seed: u8,
        ) {
            assert_complete(&Partition::dirichlet(&labels, 5, n_clients, alpha, &mut rng(seed)).unwrap(), labels.len());

            let iid = Partition::iid(labels.len(), n_clients, &mut rng(seed)).unwrap();
            assert_complete(&iid, labels.len());
            let sizes = sizes(&iid);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);

            let rows: Vec<String> = labels.iter().map(u32::to_string).collect();
            let keys = keys(&rows.iter().map(String::as_str).collect::<Vec<_>>());
            let by_key = Partition::by_key(&keys, None).unwrap();
            assert_complete(&by_key, labels.len());
            for client in 0..by_key.n_clients() {
                let name = by_key.name(client);
                prop_assert!(by_key.examples(client).iter().all(|&example| rows[example as usize] == name));
            }

            let limited = Partition::by_key(&keys, Some(3)).unwrap();
            prop_assert_eq!(limited.n_examples() + limited.n_left_out(), labels.len());
            for client in 0..limited.n_clients() {
                let kept = limited.examples(client).len();
                prop_assert_eq!(kept, by_key.examples(client).len().min(3));
                prop_assert_eq!(limited.examples(client), &by_key.examples(client)[..kept]);
            }
        }
    }
}
