//! Which client holds which examples.

mod by_key;
mod continuous;
mod dirichlet;
mod distribution;
mod grouped_keys;
mod iid;
mod inner_dirichlet;
mod pathological;
mod quantity;
mod shards;
mod shares;
mod sizes;
mod summary;

use std::borrow::Cow;
use std::ops::Range;

use rand::seq::SliceRandom;

pub use self::quantity::QuantitySkew;
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
    /// Parts of the examples in the order of a number that each has as its key.
    Continuous {
        /// How many clients.
        clients: usize,
        /// From 0, a random division, to 1, a range of numbers for each client.
        strictness: f64,
    },
    /// Label skew after Yurochkin et al. 2019 and NIID-bench (Li et al. 2022): the examples of each class are divided
    /// in proportions drawn from a symmetric Dirichlet distribution.
    Dirichlet {
        /// Concentration: near 0 each class goes to few clients, large values come close to [`Iid`](Self::Iid).
        alpha: f64,
        /// How many clients.
        clients: usize,
    },
    /// Stated shares of each class.
    Distribution {
        /// For each class a share for each client; rows need not sum to 1.
        shares: Vec<Vec<f64>>,
    },
    /// Several keys of a file for each client, dealt out at random.
    GroupedKeys {
        /// Keys of a client; the last one may have fewer.
        keys_per_client: usize,
    },
    /// A uniformly random division into parts whose sizes differ by at most one.
    Iid {
        /// How many clients.
        clients: usize,
    },
    /// Label skew with clients of equal size, each with class proportions of its own (Acar et al. 2021).
    InnerDirichlet {
        /// Concentration: near 0 each client has few classes.
        alpha: f64,
        /// How many clients.
        clients: usize,
    },
    /// A fixed number of labels for each client (NIID-bench).
    Pathological {
        /// How many clients.
        clients: usize,
        /// Classes of each of them.
        labels: usize,
    },
    /// Clients of different sizes with the same distribution.
    Quantity {
        /// How many clients.
        clients: usize,
        /// How their sizes differ.
        skew: QuantitySkew,
    },
    /// Shards of the examples sorted by label (McMahan et al. 2017).
    Shards {
        /// How many clients.
        clients: usize,
        /// Shards of each of them.
        shards_per_client: usize,
    },
    /// Random parts of stated sizes.
    Sizes {
        /// Examples of each client.
        sizes: Vec<usize>,
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
    /// A client would have no key.
    #[error("partition keys_per_client must be at least 1, got 0")]
    KeysPerClient,
    /// The labels cannot be given out so.
    #[error(
        "partition labels must be from 1 to the number of classes that occur ({n_classes}), and enough that all clients together \
         have them all, got {labels_per_client} for each of {n_clients} clients"
    )]
    Labels {
        /// Labels of a client.
        labels_per_client: usize,
        /// Number of clients.
        n_clients: usize,
        /// Classes that have examples.
        n_classes: usize,
    },
    /// No client could hold an example.
    #[error("partition max_examples must be at least 1, got 0")]
    MaxExamples,
    /// A division by key without keys.
    #[error("a partition by key needs a file of client keys")]
    NoKeys,
    /// A key by whose number examples are sorted is none.
    #[error("a continuous partition sorts examples by a number, got the key `{got}`")]
    NotANumber {
        /// The key.
        got: String,
    },
    /// Shares that divide nothing.
    #[error(
        "partition shares of class {class} must be {n_clients} finite numbers of at least 0, as many as in the first row and not all 0"
    )]
    Shares {
        /// The class.
        class: usize,
        /// Number of clients.
        n_clients: usize,
    },
    /// Not a row of shares for each class.
    #[error("partition shares must have a row for each of the {n_classes} classes, got {n_rows}")]
    ShareRows {
        /// Classes of the data.
        n_classes: usize,
        /// Rows that came.
        n_rows: usize,
    },
    /// A shard would be empty, or there is none.
    #[error(
        "partition shards_per_client must be at least 1, and clients × shards_per_client at most the {n_examples} examples, got \
         {n_clients} × {shards_per_client}"
    )]
    Shards {
        /// Number of clients.
        n_clients: usize,
        /// Shards of a client.
        shards_per_client: usize,
        /// Examples there are.
        n_examples: usize,
    },
    /// How strictly examples are sorted is out of range.
    #[error("partition strictness must be from 0 to 1, got {got}")]
    Strictness {
        /// The number that came.
        got: f64,
    },
    /// More examples are asked for than there are.
    #[error("partition sizes sum to {asked}, but there are {n_examples} examples")]
    Sizes {
        /// Their sum.
        asked: usize,
        /// Examples there are.
        n_examples: usize,
    },
}

impl PartitionSpec {
    /// Divides `dataset`. Only [`ByKey`](Self::ByKey), [`GroupedKeys`](Self::GroupedKeys) and [`Continuous`](Self::Continuous) read
    /// `keys`; all but the first draw from `rng`.
    pub fn partition(
        &self,
        dataset: &Dataset,
        keys: Option<&ClientKeys>,
        rng: &mut TrainingRng,
    ) -> Result<Partition, PartitionError> {
        let (labels, n_classes, n_examples) = (dataset.labels(), dataset.n_classes(), dataset.n_examples());
        let keys = || {
            let keys = keys.ok_or(PartitionError::NoKeys)?;
            dataset.check_keys(keys)?;
            Ok::<_, PartitionError>(keys)
        };
        match *self {
            Self::ByKey { max_examples } => Partition::by_key(keys()?, max_examples),
            Self::Continuous { clients, strictness } => {
                Partition::continuous(keys()?, clients, strictness, rng)
            }
            Self::Distribution { ref shares } => Partition::distribution(labels, n_classes, shares, rng),
            Self::GroupedKeys { keys_per_client } => Partition::grouped_keys(keys()?, keys_per_client, rng),
            Self::Dirichlet { alpha, clients } => {
                Partition::dirichlet(labels, n_classes, clients, alpha, rng)
            }
            Self::Iid { clients } => Partition::iid(n_examples, clients, rng),
            Self::InnerDirichlet { alpha, clients } => {
                Partition::inner_dirichlet(labels, n_classes, clients, alpha, rng)
            }
            Self::Pathological {
                clients,
                labels: labels_per_client,
            } => Partition::pathological(labels, n_classes, clients, labels_per_client, rng),
            Self::Quantity { clients, skew } => Partition::quantity(n_examples, clients, skew, rng),
            Self::Shards {
                clients,
                shards_per_client,
            } => Partition::shards(labels, clients, shards_per_client, rng),
            Self::Sizes { ref sizes } => Partition::sizes(n_examples, sizes, rng),
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

fn check_alpha(alpha: f64) -> Result<(), PartitionError> {
    if alpha.is_finite() && alpha > 0.0 {
        Ok(())
    } else {
        Err(PartitionError::Alpha { got: alpha })
    }
}

/// The indices of all examples in random order.
fn shuffled(n_examples: usize, rng: &mut TrainingRng) -> Vec<u32> {
    let n_examples = u32::try_from(n_examples).expect("a data set has fewer than 2^32 examples");
    let mut indices: Vec<u32> = (0..n_examples).collect();
    indices.shuffle(rng);
    indices
}

/// Part `part` when `total` examples are cut into `n_parts` whose sizes differ by at most one, the larger ones first.
fn even_part(part: usize, n_parts: usize, total: usize) -> Range<usize> {
    let (each, larger) = (total / n_parts, total % n_parts);
    let end = |part: usize| part * each + part.min(larger);
    end(part)..end(part + 1)
}

/// The examples of each class.
fn by_class(labels: &[u32], n_classes: usize) -> Vec<Vec<u32>> {
    let mut classes = vec![Vec::new(); n_classes];
    for (example, &label) in (0_u32..).zip(labels) {
        classes[label as usize].push(example);
    }
    classes
}

#[cfg(test)]
mod tests;
