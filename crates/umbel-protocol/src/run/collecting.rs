//! A round that is open for reports.

use umbel_accounting::NeighboringRelation;
use umbel_mechanisms::{CohortSource, IntegerSum, poisson_cohort};

use crate::{ClientFault, ClientId, ClientMessage, RoundCounts, RoundId, Sampling, Timestamp};

/// The sealed sum of a round and who is in it. Memory: one integer a parameter and eight bytes a member of the cohort.
#[derive(Debug)]
pub(super) struct Collecting {
    round: RoundId,
    deadline: Timestamp,
    dimension: usize,
    /// Who is invited, in ascending order.
    cohort: Vec<u64>,
    /// How many of them were handed their invitation.
    n_invited: usize,
    /// Who has reported, at the client's place in `cohort`.
    reported: Vec<bool>,
    n_reports: u64,
    sum: IntegerSum,
}

impl Collecting {
    /// Draws the cohort and opens the round.
    pub(super) fn open(
        round: RoundId,
        deadline: Timestamp,
        sampling: Sampling,
        population: u64,
        source: &CohortSource,
        dimension: usize,
    ) -> Self {
        let cohort = match sampling {
            Sampling::Poisson { rate } => poisson_cohort(source, round.0, population, rate),
        };
        let reported = vec![false; cohort.len()];
        let sum = IntegerSum::new(dimension);
        Self {
            round,
            deadline,
            dimension,
            cohort,
            n_invited: 0,
            reported,
            n_reports: 0,
            sum,
        }
    }

    pub(super) fn round(&self) -> RoundId {
        self.round
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Whether the round closes now. Under add-or-remove only time may close it: a rule on counts would let one client
    /// decide whether there is a release.
    pub(super) fn closes(&self, now: Timestamp, relation: NeighboringRelation) -> bool {
        match relation {
            NeighboringRelation::AddOrRemoveOne
            | NeighboringRelation::ReplaceByZero
            | NeighboringRelation::ReplaceOne => now >= self.deadline,
        }
    }

    /// The next client to invite.
    pub(super) fn next_invitation(&mut self) -> Option<ClientId> {
        let client = self.cohort.get(self.n_invited)?;
        self.n_invited += 1;
        Some(ClientId(*client))
    }

    /// Adds one report to the sum and gives its memory back. What is refused changes nothing.
    pub(super) fn handle_report(
        &mut self,
        from: ClientId,
        message: ClientMessage,
    ) -> Result<Vec<i32>, ClientFault> {
        let ClientMessage::Report { round, update } = message;
        if round != self.round {
            return Err(ClientFault::OtherRound {
                client: from,
                open: Some(self.round),
                got: round,
            });
        }
        let Ok(place) = self.cohort.binary_search(&from.0) else {
            return Err(ClientFault::NotInvited { client: from, round });
        };
        if self.reported[place] {
            return Err(ClientFault::AlreadyReported { client: from, round });
        }
        if update.values().len() != self.dimension {
            let got = update.values().len();
            return Err(ClientFault::Dimension {
                client: from,
                expected: self.dimension,
                got,
            });
        }
        self.sum
            .add(&update)
            .map_err(|_| ClientFault::OtherQuantization { client: from })?;
        self.reported[place] = true;
        self.n_reports += 1;
        Ok(update.into_buffer())
    }

    pub(super) fn counts(&self) -> RoundCounts {
        RoundCounts {
            cohort: self.cohort.len() as u64,
            reports: self.n_reports,
        }
    }

    /// The sum, for the one who may learn it.
    pub(super) fn into_sum(self) -> IntegerSum {
        self.sum
    }
}
