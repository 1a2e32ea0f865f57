//! Sums of diagnostics that do not depend on the order in which clients finish.

use umbel_experiment::SimulatorOnly;
use umbel_mechanisms::ClipOutcome;
use umbel_protocol::RoundCounts;
use umbel_train::LocalReport;

/// One part in 2^32: fine enough for a diagnostic, coarse enough that sums of any cohort fit.
const SCALE: f64 = 4_294_967_296.0;

/// What the simulator sees of one round. Memory does not grow with the cohort, and integer sums make the result the same in
/// every order of arrival.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    clients: u64,
    clipped: u64,
    non_finite: u64,
    norm_max: f64,
    norm_sum: i128,
    examples_seen: u64,
    loss_sum: i128,
}

impl Tally {
    /// Counts one client.
    pub(crate) fn add(&mut self, report: LocalReport, outcome: ClipOutcome) {
        self.clients += 1;
        self.clipped += u64::from(outcome.clipped);
        self.non_finite += u64::from(outcome.non_finite);
        if outcome.norm.is_finite() {
            self.norm_max = self.norm_max.max(outcome.norm);
            self.norm_sum = self.norm_sum.saturating_add(fixed(outcome.norm));
        }
        self.examples_seen += report.n_examples_seen as u64;
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        let loss = report.mean_loss * report.n_examples_seen as f64;
        if loss.is_finite() {
            self.loss_sum = self.loss_sum.saturating_add(fixed(loss));
        }
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.clients += other.clients;
        self.clipped += other.clipped;
        self.non_finite += other.non_finite;
        self.norm_max = self.norm_max.max(other.norm_max);
        self.norm_sum = self.norm_sum.saturating_add(other.norm_sum);
        self.examples_seen += other.examples_seen;
        self.loss_sum = self.loss_sum.saturating_add(other.loss_sum);
    }

    /// Clients that were trained.
    pub(crate) fn clients(&self) -> u64 {
        self.clients
    }

    /// Examples that were visited, once for each epoch.
    pub(crate) fn examples_seen(&self) -> u64 {
        self.examples_seen
    }

    /// The diagnostics of a round with these counts.
    pub(crate) fn simulator_only(&self, counts: RoundCounts) -> SimulatorOnly {
        SimulatorOnly {
            covered_by_epsilon: false,
            cohort: counts.cohort,
            reports: counts.reports,
            clipped_fraction: ratio(i128::from(self.clipped), self.clients, 1.0),
            non_finite: self.non_finite,
            update_norm_mean: ratio(self.norm_sum, self.clients - self.non_finite, SCALE),
            update_norm_max: self.norm_max,
            train_loss: ratio(self.loss_sum, self.examples_seen, SCALE),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "finite values saturate, and a diagnostic may"
)]
fn fixed(value: f64) -> i128 {
    (value * SCALE).round() as i128
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a diagnostic needs no more than f64 holds"
)]
fn ratio(sum: i128, count: u64, scale: f64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / scale / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(loss: f64, norm: f64) -> (LocalReport, ClipOutcome) {
        let report = LocalReport {
            n_examples: 3,
            n_steps: 1,
            n_examples_seen: 3,
            mean_loss: loss,
        };
        (
            report,
            ClipOutcome {
                norm,
                clipped: norm > 1.0,
                non_finite: !norm.is_finite(),
            },
        )
    }

    #[test]
    fn order_and_threads_do_not_matter() {
        let clients: Vec<_> = (0..100)
            .map(|i| client(f64::from(i).sqrt(), 1.0 / f64::from(i + 1)))
            .collect();
        let mut forward = Tally::default();
        let mut halves = [Tally::default(), Tally::default()];
        for (place, (report, outcome)) in clients.iter().enumerate() {
            forward.add(*report, *outcome);
            let (report, outcome) = clients[99 - place];
            halves[place % 2].add(report, outcome);
        }
        let [mut backward, second] = halves;
        backward.merge(second);
        let counts = RoundCounts {
            cohort: 100,
            reports: 100,
        };
        assert_eq!(forward.simulator_only(counts), backward.simulator_only(counts));
    }

    #[test]
    fn an_empty_round_has_no_means() {
        let numbers = Tally::default().simulator_only(RoundCounts::default());
        assert_eq!(
            (
                numbers.clipped_fraction,
                numbers.update_norm_mean,
                numbers.train_loss
            ),
            (None, None, None)
        );
    }

    #[test]
    fn a_diverging_client_overflows_nothing() {
        let mut tally = Tally::default();
        for _ in 0..4 {
            let (report, outcome) = client(1e300, 1e300);
            tally.add(report, outcome);
        }
        tally.merge(tally);
        let numbers = tally.simulator_only(RoundCounts {
            cohort: 8,
            reports: 8,
        });
        assert!(numbers.update_norm_mean.unwrap() > 1e20 && numbers.train_loss.unwrap() > 1e20);
    }

    #[test]
    fn non_finite_updates_are_counted_and_left_out_of_means() {
        let mut tally = Tally::default();
        for (report, outcome) in [
            client(1.0, 2.0),
            client(f64::NAN, f64::NAN),
            client(f64::INFINITY, f64::INFINITY),
        ] {
            tally.add(report, outcome);
        }
        let numbers = tally.simulator_only(RoundCounts {
            cohort: 3,
            reports: 3,
        });
        assert_eq!((numbers.non_finite, numbers.update_norm_mean), (2, Some(2.0)));
    }
}
