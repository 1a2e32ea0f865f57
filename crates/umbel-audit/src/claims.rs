//! ε again, from the recorded events.

use umbel_accounting::ledger::{Claim, Header};
use umbel_accounting::{
    Accountant, AccountantKind, Delta, DpEvent, Epsilon, EpsilonBounds, NeighboringRelation, accountant,
};
use umbel_mechanisms::{CentralGaussian, DistributedGaussian};

/// Two independent accountants over the rounds of one ledger, which only go on.
#[derive(Debug)]
pub(crate) struct Recount {
    delta: Delta,
    event: DpEvent,
    pld: Option<Box<dyn Accountant>>,
    rdp: Option<Box<dyn Accountant>>,
    composed: u64,
    /// Whose ε the ledger claims.
    named: String,
    /// No ε above this is certified for the noise sampler.
    most_certified: f64,
}

/// ε of some number of rounds, by both accountants as far as they know the event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Recounted {
    pub(crate) pld: Option<EpsilonBounds>,
    pub(crate) rdp: Option<EpsilonBounds>,
}

impl Recount {
    pub(crate) fn new(header: &Header) -> Result<Self, String> {
        let relation = [
            NeighboringRelation::AddOrRemoveOne,
            NeighboringRelation::ReplaceByZero,
            NeighboringRelation::ReplaceOne,
        ]
        .into_iter()
        .find(|relation| relation.as_str() == header.neighbors)
        .ok_or_else(|| format!("`neighbors` is an unknown relation `{}`", header.neighbors))?;
        let delta = Delta::new(header.accounted_delta).map_err(|error| error.to_string())?;
        let event = header.round_event.clone();
        let known = |kind| {
            let accountant = accountant(kind, relation);
            accountant.supports(&event).map(|()| accountant)
        };
        let (pld, rdp) = (known(AccountantKind::Pld), known(AccountantKind::Rdp));
        if let (Err(error), Err(_)) = (&pld, &rdp) {
            return Err(format!("no accountant of this program can recompute ε: {error}"));
        }
        let most_certified = match header.noise.as_str() {
            "rounded" => CentralGaussian::MAX_EPSILON,
            "discrete" => DistributedGaussian::MAX_EPSILON,
            _ => f64::INFINITY,
        };
        Ok(Self {
            delta,
            event,
            pld: pld.ok(),
            rdp: rdp.ok(),
            composed: 0,
            named: header.accountant.clone(),
            most_certified,
        })
    }

    /// ε once the event was applied `applications` times, which must not be fewer than before, by both accountants.
    pub(crate) fn after(&mut self, applications: u64) -> Result<Recounted, String> {
        self.count(applications, None)
    }

    /// The same by the accountant of the claims only, which takes half the time.
    pub(crate) fn named_after(&mut self, applications: u64) -> Result<Recounted, String> {
        let named = self.named.clone();
        self.count(applications, Some(&named))
    }

    fn count(&mut self, applications: u64, only: Option<&str>) -> Result<Recounted, String> {
        let more = applications - self.composed;
        let (delta, most) = (self.delta, self.most_certified);
        let event = &self.event;
        let count = |accountant: &mut Option<Box<dyn Accountant>>| -> Result<Option<EpsilonBounds>, String> {
            let Some(accountant) = accountant else {
                return Ok(None);
            };
            accountant
                .compose(event, more)
                .map_err(|error| error.to_string())?;
            if only.is_some_and(|only| only != accountant.kind().as_str()) {
                return Ok(None);
            }
            if applications == 0 {
                return Ok(Some(EpsilonBounds {
                    lower: Some(Epsilon::ZERO),
                    upper: Epsilon::ZERO,
                }));
            }
            let bounds = accountant.epsilon(delta).map_err(|error| error.to_string())?;
            let upper = if bounds.upper.value() > most {
                Epsilon::INFINITE
            } else {
                bounds.upper
            };
            Ok(Some(EpsilonBounds { upper, ..bounds }))
        };
        let recounted = Recounted {
            pld: count(&mut self.pld)?,
            rdp: count(&mut self.rdp)?,
        };
        self.composed = applications;
        Ok(recounted)
    }

    /// The accountant whose curves say what an attacker can do, after everything composed so far.
    pub(crate) fn accountant(&self) -> Option<&dyn Accountant> {
        self.pld.as_deref().or(self.rdp.as_deref())
    }
}

impl Recounted {
    /// What the accountant of a claim says.
    pub(crate) fn named(&self, name: &str) -> Option<EpsilonBounds> {
        match name {
            "pld" => self.pld,
            "rdp" => self.rdp,
            _ => None,
        }
    }

    /// A certified lower bound, for which an accountant that can show one is needed.
    fn lower(&self) -> f64 {
        let lower = self.pld.and_then(|bounds| bounds.lower);
        lower.map_or(0.0, Epsilon::value)
    }

    /// Whether `claim` can be a bound on what was spent: not below what is certainly lost, and what its own accountant says.
    pub(crate) fn check(&self, claim: &Claim) -> Result<(), String> {
        let claimed = claim.epsilon.unwrap_or(f64::INFINITY);
        let named = self.named(&claim.accountant);
        let named = named.ok_or_else(|| {
            format!(
                "the claim is by `{}`, which does not account for these events",
                claim.accountant
            )
        })?;
        if let (Some(pld), Some(rdp)) = (self.pld, self.rdp)
            && pld.lower.is_some_and(|lower| lower > rdp.upper)
        {
            return Err(format!(
                "the accountants contradict each other: pld shows at least {}, rdp at most {}",
                self.lower(),
                rdp.upper
            ));
        }
        let lower = self.lower();
        if claimed < lower {
            return Err(format!(
                "the claimed ε {claimed} is false: the recorded events cost at least {lower}, and {} certifies {}",
                claim.accountant, named.upper
            ));
        }
        // Another version may know a tighter bound; this much is left to it.
        if claimed < named.upper.value() * (1.0 - SLACK) {
            return Err(format!(
                "the claimed ε {claimed} is not confirmed: {} certifies {} for the recorded events",
                claim.accountant, named.upper
            ));
        }
        Ok(())
    }
}

/// How far a claim may be below the value computed here.
const SLACK: f64 = 0.005;

/// How far claims may be apart that are checked together, unless that would be too many checks.
const STRETCH: f64 = 0.01;

/// Up to so many claims each is checked by itself, and of more about so many stretches.
const FEW: usize = 100;

/// Where claims are recomputed, as positions in `claims`, which never fall: at the end of each stretch over which they rise by
/// no more than a share, so that what is found right there bounds every claim before it to within as much.
pub(crate) fn checkpoints(claims: &[f64]) -> Vec<usize> {
    if claims.len() <= FEW {
        return (0..claims.len()).collect();
    }
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let even = match (claims.first(), claims.last()) {
        (Some(first), Some(last)) if *first > 0.0 && last.is_finite() => {
            ((last / first).ln() / FEW as f64).exp_m1()
        }
        _ => 0.0,
    };
    let stretch = even.max(STRETCH);
    let mut ends = Vec::new();
    let mut start = 0;
    while start < claims.len() {
        let most = claims[start] * (1.0 + stretch);
        let end = start + claims[start..].partition_point(|claim| *claim <= most);
        let last = end.max(start + 1) - 1;
        ends.push(last);
        start = last + 1;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_end_stretches_of_like_claims() {
        let rising: Vec<f64> = (1..=30_000_u32).map(|round| f64::from(round).sqrt()).collect();
        let ends = checkpoints(&rising);
        assert!(ends.len() <= FEW + 1 && *ends.last().unwrap() == rising.len() - 1);
        let mut start = 0;
        for end in ends {
            assert!(end >= start && rising[end] <= rising[start] * 1.06);
            start = end + 1;
        }
        assert_eq!(checkpoints(&[f64::INFINITY; 200]), [199]);
        assert_eq!(checkpoints(&[0.0; 200]), [199]);
        assert_eq!(checkpoints(&[1.0, 1.0]), [0, 1]);
    }
}
