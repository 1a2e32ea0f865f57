//! What a partition looks like, for a report.

use super::Partition;

/// For how many clients a summary counts labels.
pub const LABELLED_CLIENTS: usize = 50;

/// At most this many bins in the histogram of examples a client.
const MAX_BINS: usize = 20;

/// Numbers that describe a partition.
///
/// They are computed from the clients' data: show them in a simulation as what only the simulator sees, never as
/// something that an ε covers.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionSummary {
    /// Clients, those without examples included.
    pub n_clients: usize,
    /// Examples that the clients hold together.
    pub n_examples: usize,
    /// Examples that no client holds, because of a limit on examples a client.
    pub n_left_out: usize,
    /// Clients that hold no example.
    pub n_without_examples: usize,
    /// Examples of the client that has fewest.
    pub min_examples: usize,
    /// Median of the examples a client: the mean of the two in the middle where the number of clients is even.
    pub median_examples: f64,
    /// Mean of the examples a client.
    pub mean_examples: f64,
    /// Examples of the client that has most.
    pub max_examples: usize,
    /// Clients by number of examples: bins of equal width without gaps, from `min_examples` on.
    pub histogram: Vec<HistogramBin>,
    /// Examples of each class for the first [`LABELLED_CLIENTS`] clients.
    pub labels: Vec<ClientLabels>,
}

/// One bar of a histogram of examples a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramBin {
    /// The smallest number of examples that is counted here.
    pub first: usize,
    /// The largest.
    pub last: usize,
    /// How many clients hold that many.
    pub n_clients: usize,
}

/// How many examples of each class one client holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLabels {
    /// The client's key, or its number.
    pub name: String,
    /// Examples of class 0, 1, and so on.
    pub counts: Vec<usize>,
}

impl Partition {
    /// Describes the partition. `labels` are those of the whole data set.
    ///
    /// # Panics
    ///
    /// Where the partition is of other data: an index beyond `labels`, or a label not below `n_classes`.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^32")]
    pub fn summary(&self, labels: &[u32], n_classes: usize) -> PartitionSummary {
        let n_clients = self.n_clients();
        let mut sizes: Vec<usize> = (0..n_clients).map(|client| self.examples(client).len()).collect();
        sizes.sort_unstable();
        let (min_examples, max_examples) = (sizes[0], sizes[n_clients - 1]);
        let labels = (0..n_clients.min(LABELLED_CLIENTS)).map(|client| {
            let mut counts = vec![0; n_classes];
            for &example in self.examples(client) {
                counts[labels[example as usize] as usize] += 1;
            }
            ClientLabels {
                name: self.name(client).into_owned(),
                counts,
            }
        });
        PartitionSummary {
            n_clients,
            n_examples: self.n_examples(),
            n_left_out: self.n_left_out(),
            n_without_examples: sizes.partition_point(|&size| size == 0),
            min_examples,
            median_examples: (sizes[(n_clients - 1) / 2] + sizes[n_clients / 2]) as f64 / 2.0,
            mean_examples: self.n_examples() as f64 / n_clients as f64,
            max_examples,
            histogram: histogram(&sizes),
            labels: labels.collect(),
        }
    }
}

/// Bins of equal width over sorted sizes.
fn histogram(sorted_sizes: &[usize]) -> Vec<HistogramBin> {
    let (Some(&min), Some(&max)) = (sorted_sizes.first(), sorted_sizes.last()) else {
        return Vec::new();
    };
    let width = (max - min + 1).div_ceil(MAX_BINS);
    let n_bins = (max - min + 1).div_ceil(width);
    let mut bins: Vec<HistogramBin> = (0..n_bins)
        .map(|bin| HistogramBin {
            first: min + bin * width,
            last: min + (bin + 1) * width - 1,
            n_clients: 0,
        })
        .collect();
    for &size in sorted_sizes {
        bins[(size - min) / width].n_clients += 1;
    }
    bins
}
