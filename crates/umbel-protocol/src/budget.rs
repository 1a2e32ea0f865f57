//! What was spent, and whether the next round may be.

use std::fmt;

use umbel_accounting::ledger::Claim;
use umbel_accounting::{
    Accountant, AccountantKind, AccountingError, Delta, DpEvent, Epsilon, EpsilonBounds, NeighboringRelation,
    Unsupported,
};

use crate::{BudgetExhausted, RoundId, RunPlan};

/// The spending of one run under a plan that was fixed in advance.
///
/// Every round costs the same, up to the most rounds that can cost anything, so what is spent is a number of rounds, reserved
/// ones included. A reservation is taken back only if its round is voided. A run that may end early pays for all its rounds with
/// the first.
pub(crate) struct Spending {
    accountant: Box<dyn Accountant>,
    accounted_delta: Delta,
    /// Rounds that `accountant` holds: a working value, not what is spent.
    composed: u64,
    delta: Delta,
    event: DpEvent,
    kind: AccountantKind,
    limit: Option<Epsilon>,
    /// No ε above this is reported as finite.
    most_certified: f64,
    relation: NeighboringRelation,
    /// Rounds reserved or charged.
    rounds: u64,
    /// ε of `rounds` rounds.
    spent: EpsilonBounds,
    /// A number of rounds and their ε, the last that was computed: what is reserved is asked for again when it is released.
    known: (u64, EpsilonBounds),
    /// Rounds beyond as many cost nothing more.
    most_charges: Option<u64>,
    /// Where the run may end early, its planned rounds, all of which are paid for with the first.
    whole: Option<u64>,
}

/// Why a reservation failed.
#[derive(Debug)]
pub(crate) enum ReserveError {
    Accounting(AccountingError),
    Exhausted(BudgetExhausted),
}

const NOTHING: EpsilonBounds = EpsilonBounds {
    lower: Some(Epsilon::ZERO),
    upper: Epsilon::ZERO,
};

impl Spending {
    /// Nothing spent yet. The accountant gets `accounted_delta`, claims are made for the plan's.
    pub(crate) fn new(plan: &RunPlan, accounted_delta: Delta) -> Result<Self, Unsupported> {
        let settings = plan.settings();
        let (kind, relation, event) = (settings.accountant, plan.relation(), plan.round_event());
        let accountant = umbel_accounting::accountant(kind, relation);
        accountant.supports(&event)?;
        Ok(Self {
            accountant,
            accounted_delta,
            composed: 0,
            delta: settings.delta,
            event,
            kind,
            limit: settings.epsilon_budget,
            most_certified: plan.most_certified(),
            relation,
            rounds: 0,
            spent: NOTHING,
            known: (0, NOTHING),
            most_charges: plan.most_charges(),
            whole: settings.may_stop_early.then_some(settings.rounds),
        })
    }

    /// Takes over `rounds` rounds that are already charged.
    pub(crate) fn restore(&mut self, rounds: u64) -> Result<(), AccountingError> {
        self.spent = self.cost_of(rounds)?;
        self.rounds = rounds;
        Ok(())
    }

    /// Sets the cost of `round` aside, or refuses and changes nothing.
    pub(crate) fn reserve(&mut self, round: RoundId) -> Result<(), ReserveError> {
        let asked = self.cost_of(self.rounds + 1).map_err(ReserveError::Accounting)?;
        if let Some(limit) = self.limit.filter(|limit| asked.upper.value() > limit.value()) {
            return Err(ReserveError::Exhausted(BudgetExhausted {
                round,
                spent: self.spent.upper.value(),
                asked: asked.upper.value(),
                limit: limit.value(),
                delta: self.delta.value(),
            }));
        }
        self.rounds += 1;
        self.spent = asked;
        Ok(())
    }

    /// Gives the open reservation back: its round was abandoned before anything was learnt.
    pub(crate) fn void(&mut self) -> Result<(), AccountingError> {
        self.restore(self.rounds - 1)
    }

    /// ε of everything reserved or charged so far.
    pub(crate) fn spent(&self) -> EpsilonBounds {
        self.spent
    }

    /// The same as it stands in the ledger.
    pub(crate) fn claim(&self) -> Claim {
        Claim::new(self.kind, self.delta, self.spent)
    }

    /// ε of the first `rounds` rounds, or of all planned ones where the run may end early. Does not change what is spent.
    pub(crate) fn cost_of(&mut self, rounds: u64) -> Result<EpsilonBounds, AccountingError> {
        if rounds == 0 {
            return Ok(NOTHING);
        }
        let rounds = self.whole.unwrap_or(rounds);
        let rounds = self.most_charges.map_or(rounds, |most| rounds.min(most));
        if self.known.0 != rounds {
            self.known = (rounds, self.compute(rounds)?);
        }
        Ok(self.known.1)
    }

    fn compute(&mut self, rounds: u64) -> Result<EpsilonBounds, AccountingError> {
        if rounds < self.composed {
            self.accountant = umbel_accounting::accountant(self.kind, self.relation);
            self.composed = 0;
        }
        self.accountant.compose(&self.event, rounds - self.composed)?;
        self.composed = rounds;
        let bounds = self.accountant.epsilon(self.accounted_delta)?;
        if bounds.upper.value() > self.most_certified {
            return Ok(EpsilonBounds {
                upper: Epsilon::INFINITE,
                ..bounds
            });
        }
        Ok(bounds)
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
