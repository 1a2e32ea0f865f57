//! What was spent, and whether the next round may be.

use std::fmt;

use umbel_accounting::ledger::Claim;
use umbel_accounting::{
    Accountant, AccountantKind, AccountingError, Delta, DpEvent, Epsilon, EpsilonBounds, Unsupported,
};

use crate::{BudgetExhausted, RoundId, RunPlan};

/// The spending of one run under a plan that was fixed in advance.
///
/// A reservation is composed before its round opens, and taken back only if the round is voided. Since every round of a run
/// costs the same, the state is a number of rounds; the accountant is asked anew for each number.
pub(crate) struct Spending {
    accountant: Box<dyn Accountant>,
    accounted_delta: Delta,
    delta: Delta,
    event: DpEvent,
    kind: AccountantKind,
    limit: Option<Epsilon>,
    /// Rounds reserved or charged.
    rounds: u64,
    /// ε of `rounds` rounds.
    spent: EpsilonBounds,
    /// What `spent` was before the open reservation.
    before: Option<EpsilonBounds>,
}

/// Why a reservation failed.
#[derive(Debug)]
pub(crate) enum ReserveError {
    Accounting(AccountingError),
    Exhausted(BudgetExhausted),
}

impl Spending {
    /// Nothing spent yet. The accountant gets `accounted_delta`, claims are made for the plan's.
    pub(crate) fn new(plan: &RunPlan, accounted_delta: Delta) -> Result<Self, Unsupported> {
        let settings = plan.settings();
        let (kind, event) = (settings.accountant, plan.round_event());
        let accountant = umbel_accounting::accountant(kind, plan.relation());
        accountant.supports(&event)?;
        let spent = EpsilonBounds {
            lower: Some(Epsilon::ZERO),
            upper: Epsilon::ZERO,
        };
        let (delta, limit) = (settings.delta, settings.epsilon_budget);
        Ok(Self {
            accountant,
            accounted_delta,
            delta,
            event,
            kind,
            limit,
            rounds: 0,
            spent,
            before: None,
        })
    }

    /// Takes over `rounds` rounds that are already charged.
    pub(crate) fn restore(&mut self, rounds: u64) -> Result<(), AccountingError> {
        self.accountant.compose(&self.event, rounds)?;
        self.rounds = rounds;
        if rounds > 0 {
            self.spent = self.accountant.epsilon(self.accounted_delta)?;
        }
        Ok(())
    }

    /// Sets the cost of `round` aside, or refuses and changes nothing.
    pub(crate) fn reserve(&mut self, round: RoundId) -> Result<(), ReserveError> {
        self.accountant
            .compose(&self.event, 1)
            .map_err(|error| ReserveError::Accounting(error.into()))?;
        let asked = match self.accountant.epsilon(self.accounted_delta) {
            Ok(asked) => asked,
            Err(error) => {
                return Err(self
                    .rebuild()
                    .map_or_else(ReserveError::Accounting, |()| ReserveError::Accounting(error)));
            }
        };
        if let Some(limit) = self.limit {
            if asked.upper.value() > limit.value() {
                self.rebuild().map_err(ReserveError::Accounting)?;
                return Err(ReserveError::Exhausted(BudgetExhausted {
                    round,
                    spent: self.spent.upper.value(),
                    asked: asked.upper.value(),
                    limit: limit.value(),
                    delta: self.delta.value(),
                }));
            }
        }
        self.before = Some(self.spent);
        self.spent = asked;
        self.rounds += 1;
        Ok(())
    }

    /// Counts a round that the ledger already holds, without asking the limit again.
    pub(crate) fn replay(&mut self) -> Result<(), AccountingError> {
        self.accountant.compose(&self.event, 1)?;
        self.rounds += 1;
        self.before = None;
        self.spent = self.accountant.epsilon(self.accounted_delta)?;
        Ok(())
    }

    /// Gives the open reservation back: its round was abandoned before anything was learnt.
    pub(crate) fn void(&mut self) -> Result<(), AccountingError> {
        if let Some(before) = self.before.take() {
            self.rounds -= 1;
            self.spent = before;
            self.rebuild()?;
        }
        Ok(())
    }

    /// ε of everything reserved or charged so far.
    pub(crate) fn spent(&self) -> EpsilonBounds {
        self.spent
    }

    /// The same as it stands in the ledger.
    pub(crate) fn claim(&self) -> Claim {
        Claim::new(self.kind, self.delta, self.spent)
    }

    fn rebuild(&mut self) -> Result<(), AccountingError> {
        self.accountant = umbel_accounting::accountant(self.kind, self.accountant.relation());
        if self.rounds > 0 {
            self.accountant.compose(&self.event, self.rounds)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Spending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spending")
            .field("rounds", &self.rounds)
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}
