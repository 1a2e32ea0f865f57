//! Secure aggregation as far as a plan knows it: whose sums are opened, and against how many it holds.

use crate::PlanError;

/// How a round's sum comes about where the server sees no client's contribution. The protocol itself is in `umbel-secagg`; the engine
/// only sees to it that a round below its minimum is not charged, and one that is charged is opened once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "every setting must be given")]
pub struct SecureAggregation {
    /// Whether a simulation leaves the cryptography away and computes the same sum.
    pub ideal: bool,
    /// The most clients in a round; whoever is drawn beyond is left out.
    pub clients_max: u32,
    /// The fewest clients in a sum: below it nothing is opened, and nothing charged.
    pub survivors_min: u32,
    /// C: the most clients of a round that collude with the server. Against more nothing is promised.
    pub colluding: u32,
    /// Dropouts by chance that a round must bear, in thousandths of its clients.
    pub dropout_permille: u32,
    /// Whether every client exchanges keys with every other, or with some in a random graph.
    pub complete: bool,
    /// b: sums are modulo 2^b.
    pub modulus_bits: u32,
}

impl SecureAggregation {
    /// The largest roster of one aggregation.
    pub const MAX_CLIENTS: u32 = 16_384;

    /// The name used in files.
    pub fn protocol(&self) -> &'static str {
        if self.ideal { "ideal" } else { "umbel-sa/1" }
    }

    /// The fewest clients in a sum that are honest.
    pub fn honest_min(&self) -> u32 {
        self.survivors_min.saturating_sub(self.colluding)
    }

    /// Bits that hold the sum of so many contributions of up to 2^30 each, and its sign.
    pub fn bits_for_quantized(clients_max: u32) -> u32 {
        32 + clients_max.max(1).next_power_of_two().ilog2()
    }

    /// Checks what must hold whatever the mechanism: two survivor sets cannot both be confirmed, and somebody in a sum is honest.
    pub fn check(&self, cohort: f64, population: u64) -> Result<(), PlanError> {
        let refuse = |key, expected: String, got: u32| {
            Err(PlanError::Setting {
                key,
                expected,
                got: got.to_string(),
            })
        };
        let (most, fewest, colluding) = (self.clients_max, self.survivors_min, self.colluding);
        if !(3..=Self::MAX_CLIENTS).contains(&most)
            || f64::from(most) < cohort
            || u64::from(most) > population
        {
            let expected = format!(
                "at least 3 and the cohort, {cohort}, at most {} and the number of clients, {population}",
                Self::MAX_CLIENTS
            );
            return refuse("secure_aggregation.clients_max", expected, most);
        }
        if fewest > most || u64::from(fewest) * 2 <= u64::from(most) + u64::from(colluding) {
            let least = (u64::from(most) + u64::from(colluding)) / 2 + 1;
            let expected = format!(
                "between {least}, more than half of {most} clients and {colluding} colluding ones, without which two sets of \
                 survivors could both be confirmed, and {most}"
            );
            return refuse("secure_aggregation.survivors_min", expected, fewest);
        }
        // Between them: somebody honest is in every sum.
        Ok(())
    }
}
