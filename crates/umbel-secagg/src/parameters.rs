//! How many neighbours a client has, and how many of them can open what it hid.
//!
//! Client and server compute the same numbers from the same public counts; none is sent, so none can be weakened.

use crate::graph::Topology;

/// Statistical security: a bad graph has probability at most 2^-80. Not 2^-40, since a server that composes the roster can
/// try many, and with each roster it gets another graph.
pub const SECURITY_BITS: u32 = 80;

/// A round in which random dropouts within the allowance leave some client unrecoverable has probability at most 2^-20.
pub const CORRECTNESS_BITS: u32 = 20;

/// The largest roster of one aggregation.
pub const MAX_CLIENTS: u32 = 16_384;

/// The public counts that parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// n: clients on the roster.
    pub clients: u32,
    /// C: the most of them that collude with the server.
    pub colluding: u32,
    /// D: the most that may drop out by chance.
    pub dropouts: u32,
}

/// Degree of the graph and threshold of the shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// k: neighbours of each client, each of whom gets a share of its secrets.
    pub degree: u32,
    /// t: shares that give a secret.
    pub threshold: u32,
}

/// No parameters are both safe and able to bear the dropouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no threshold is safe against {} colluding of {} clients and bears {} dropouts: expected more clients, fewer \
     colluding or fewer dropouts",
    .0.colluding, .0.clients, .0.dropouts
)]
pub struct NoParameters(pub Counts);

impl Parameters {
    /// The parameters that everybody in a round uses.
    pub fn new(counts: Counts, topology: Topology) -> Result<Self, NoParameters> {
        match topology {
            Topology::Complete => Self::complete(counts),
            Topology::Regular => Self::regular(counts, SECURITY_BITS, CORRECTNESS_BITS),
        }
    }

    /// Everybody is everybody's neighbour; the dealer itself holds no share.
    ///
    /// With t > (n + C)/2 two disjoint sets of honest holders, helped by all colluders, cannot both reach t, whatever each
    /// of them is told; and t ≤ n − D − 1 leaves enough after the dropouts.
    fn complete(counts: Counts) -> Result<Self, NoParameters> {
        let Counts {
            clients: n,
            colluding: c,
            dropouts: d,
        } = counts;
        let threshold = (u64::from(n) + u64::from(c)) / 2 + 1;
        if !(3..=MAX_CLIENTS).contains(&n) || threshold + u64::from(d) + 1 > u64::from(n) {
            return Err(NoParameters(counts));
        }
        Ok(Self {
            degree: n - 1,
            threshold: u32::try_from(threshold).map_err(|_| NoParameters(counts))?,
        })
    }

    /// The smallest even degree k with a threshold t for which, H(N, K, k) being the hypergeometric law:
    ///
    /// - secrecy: n·Pr[X ≥ t₀] ≤ 2^−(σ+1), X ~ H(n, C, k), so that t₀ colluding neighbours are not found;
    /// - never both secrets of one client, whoever is told what: t ≥ ⌈(k + t₀)/2⌉;
    /// - no cut by chosen dropouts: t ≥ k/2 + x + 1 with 2n·Pr[X > x] ≤ 2^−(σ+1), X ~ H(n, C, k/2): a client at the border of
    ///   a cut in the ring has at most k/2 honest neighbours left and x colluding ones, so its secrets stay closed;
    /// - correctness: n·Pr[Y < t] ≤ 2^−η, Y ~ H(n, n − D, k).
    pub(crate) fn regular(counts: Counts, sigma: u32, eta: u32) -> Result<Self, NoParameters> {
        let Counts {
            clients: n,
            colluding: c,
            dropouts: d,
        } = counts;
        if n < 3 || c >= n || d >= n {
            return Err(NoParameters(counts));
        }
        let law = Hypergeometric::new(n);
        let ln_2 = std::f64::consts::LN_2;
        let (secrecy, correctness) = (-f64::from(sigma + 1) * ln_2, -f64::from(eta) * ln_2);
        let ln_n = libm::log(f64::from(n));
        let mut degree = 2;
        while degree < n {
            let t0 = (0..=degree + 1)
                .find(|&t| ln_n + law.ln_upper_tail(c, degree, t) <= secrecy)
                .unwrap_or(degree + 1);
            let x = (0..=degree / 2)
                .find(|&x| ln_2 + ln_n + law.ln_upper_tail(c, degree / 2, x + 1) <= secrecy)
                .unwrap_or(degree / 2);
            let threshold = (degree + t0).div_ceil(2).max(degree / 2 + x + 1);
            // Y < t means that more than k − t of the k neighbours are among the D who drop out.
            if threshold <= degree
                && ln_n + law.ln_upper_tail(d, degree, degree - threshold + 1) <= correctness
            {
                return Ok(Self { degree, threshold });
            }
            degree += 2;
        }
        Err(NoParameters(counts))
    }
}

/// Tails of hypergeometric laws over one population.
struct Hypergeometric {
    /// ln i! for i from 0 to n.
    ln_factorials: Vec<f64>,
    population: u32,
}

impl Hypergeometric {
    fn new(population: u32) -> Self {
        let mut ln_factorials = vec![0.0];
        let mut sum = 0.0;
        for i in 1..=population {
            // `libm` and not the platform's logarithm, so that every machine finds the same parameters.
            sum += libm::log(f64::from(i));
            ln_factorials.push(sum);
        }
        Self {
            ln_factorials,
            population,
        }
    }

    fn ln_binomial(&self, n: u32, k: u32) -> f64 {
        let ln_factorial = |i: u32| self.ln_factorials[i as usize];
        ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
    }

    /// ln Pr[X ≥ at_least] where X counts the marked among `draws` without replacement; −∞ if that cannot be.
    fn ln_upper_tail(&self, marked: u32, draws: u32, at_least: u32) -> f64 {
        let largest = marked.min(draws);
        // Of the draws at least this many must be marked.
        let smallest = draws.saturating_sub(self.population - marked);
        let whole = self.ln_binomial(self.population, draws);
        let mut total = f64::NEG_INFINITY;
        for x in at_least.max(smallest)..=largest {
            let term =
                self.ln_binomial(marked, x) + self.ln_binomial(self.population - marked, draws - x) - whole;
            let (high, low) = if term > total {
                (term, total)
            } else {
                (total, term)
            };
            total = high + libm::log1p(libm::exp(low - high));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular(n: u32, colluding: f64, dropouts: f64, sigma: u32) -> (u32, u32) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "shares of small counts"
        )]
        let part = |share: f64| (f64::from(n) * share + 1e-9) as u32;
        let counts = Counts {
            clients: n,
            colluding: part(colluding),
            dropouts: part(dropouts),
        };
        let found = Parameters::regular(counts, sigma, 20).unwrap();
        (found.degree, found.threshold)
    }

    #[test]
    fn degrees_and_thresholds_are_those_of_the_table() {
        // Computed independently in exact rational arithmetic for the same four conditions.
        for (colluding, dropouts, sigma, expected) in [
            (0.05, 0.05, 40, [(22, 17), (74, 56), (88, 66), (96, 72)]),
            (0.05, 0.10, 40, [(32, 22), (102, 72), (128, 90), (142, 99)]),
            (0.10, 0.10, 40, [(42, 32), (134, 99), (170, 124), (188, 137)]),
            (0.10, 0.20, 40, [(62, 42), (266, 178), (374, 248), (418, 276)]),
            (0.20, 0.10, 40, [(62, 52), (200, 155), (258, 198), (290, 222)]),
            (0.05, 0.05, 80, [(22, 17), (98, 78), (122, 96), (130, 102)]),
            (0.10, 0.10, 80, [(42, 32), (180, 138), (232, 176), (252, 190)]),
        ] {
            for (n, expected) in [100, 1_000, 10_000, 100_000].into_iter().zip(expected) {
                assert_eq!(
                    regular(n, colluding, dropouts, sigma),
                    expected,
                    "n = {n}, {colluding} colluding, {dropouts} dropouts, sigma = {sigma}"
                );
            }
        }
    }

    #[test]
    fn two_halves_of_a_complete_graph_never_both_open_a_secret() {
        for clients in 3..200 {
            for colluding in 0..clients {
                let counts = Counts {
                    clients,
                    colluding,
                    dropouts: 0,
                };
                match Parameters::new(counts, Topology::Complete) {
                    Ok(Parameters { threshold, .. }) => {
                        // Both secrets: honest holders split in two, colluders help both.
                        let honest = clients - colluding;
                        assert!(2 * threshold > honest + 2 * colluding && threshold < clients);
                    }
                    Err(_) => assert!((clients + colluding) / 2 + 2 > clients),
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_safe_is_refused() {
        for (clients, colluding, dropouts) in
            [(100, 100, 0), (100, 50, 50), (2, 0, 0), (10, 8, 0), (10, 0, 6)]
        {
            let counts = Counts {
                clients,
                colluding,
                dropouts,
            };
            for topology in [Topology::Complete, Topology::Regular] {
                assert_eq!(
                    Parameters::new(counts, topology),
                    Err(NoParameters(counts)),
                    "{topology:?}"
                );
            }
        }
    }
}
