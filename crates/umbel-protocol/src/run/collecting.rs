//! A round that is open for reports.

use std::fmt;

use umbel_mechanisms::IntegerSum;

use crate::{ClientFault, ClientId, ClientMessage, OpenRound, RoundCounts, RoundId, Timestamp};

/// The sealed sum of a round and who is in it. Memory: one integer a parameter and nine bytes a member of the cohort.
pub(super) struct Collecting {
    round: RoundId,
    deadline: Timestamp,
    /// Who is invited, in ascending order.
    cohort: Vec<u64>,
    /// How many of them were handed their invitation.
    n_invited: usize,
    /// Who has reported, at the client's place in `cohort`.
    reported: Vec<bool>,
    sum: IntegerSum,
    /// With secure aggregation, once it is known, how many clients are in the sum.
    survivors: Option<u64>,
}

impl Collecting {
    /// Opens the round for this cohort.
    pub(super) fn open(round: RoundId, deadline: Timestamp, cohort: Vec<u64>, dimension: usize) -> Self {
        let reported = vec![false; cohort.len()];
        let sum = IntegerSum::new(dimension);
        Self {
            round,
            deadline,
            cohort,
            n_invited: 0,
            reported,
            sum,
            survivors: None,
        }
    }

    /// Goes on with a round that was open when the run was interrupted: the same cohort, and every report counted once.
    pub(super) fn reopen(open: OpenRound) -> Self {
        let OpenRound {
            round,
            deadline,
            cohort,
            reported,
            sum,
        } = open;
        Self {
            round,
            deadline,
            cohort,
            n_invited: 0,
            reported,
            sum,
            survivors: None,
        }
    }

    /// Everything from which the round can go on.
    pub(super) fn checkpoint(&self) -> OpenRound {
        OpenRound {
            round: self.round,
            deadline: self.deadline,
            cohort: self.cohort.clone(),
            reported: self.reported.clone(),
            sum: self.sum.clone(),
        }
    }

    pub(super) fn round(&self) -> RoundId {
        self.round
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Whether the round closes now. Only time may close it: under add-or-remove a rule on counts would let one client decide
    /// whether there is a release.
    pub(super) fn closes(&self, now: Timestamp) -> bool {
        now >= self.deadline
    }

    /// The next client to invite: those that have reported before an interruption are not asked again.
    pub(super) fn next_invitation(&mut self) -> Option<ClientId> {
        let waiting = self.reported.get(self.n_invited..)?;
        let place = self.n_invited + waiting.iter().position(|reported| !reported)?;
        self.n_invited = place + 1;
        self.cohort.get(place).copied().map(ClientId)
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
        if update.values().len() != self.sum.dimension() {
            let got = update.values().len();
            return Err(ClientFault::Dimension {
                client: from,
                expected: self.sum.dimension(),
                got,
            });
        }
        self.sum
            .add(&update)
            .map_err(|_| ClientFault::OtherQuantization { client: from })?;
        self.reported[place] = true;
        Ok(update.into_buffer())
    }

    /// Who is invited.
    pub(super) fn cohort(&self) -> &[u64] {
        &self.cohort
    }

    /// The round with this many clients in the sum that secure aggregation will open.
    pub(super) fn with_survivors(mut self, survivors: u64) -> Self {
        self.survivors = Some(survivors);
        self
    }

    /// The round with the sum that secure aggregation opened.
    pub(super) fn with_sum(mut self, sum: IntegerSum) -> Self {
        self.sum = sum;
        self
    }

    pub(super) fn counts(&self) -> RoundCounts {
        RoundCounts {
            cohort: self.cohort.len() as u64,
            reports: self.survivors.unwrap_or_else(|| self.sum.n_added()),
        }
    }

    /// The sum, for the one who may learn it.
    pub(super) fn into_sum(self) -> IntegerSum {
        self.sum
    }
}

/// Who is in a cohort is what amplification by sampling keeps secret, so nothing of it is shown.
impl fmt::Debug for Collecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collecting")
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}
