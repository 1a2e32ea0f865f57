//! Whether records keep to what the header promised.

use super::record::{Body, Claim, Header};

/// What was promised, and what was claimed last.
#[derive(Debug)]
pub(super) struct Promise {
    header: Header,
    /// The claim of the last charge.
    claim: Option<Claim>,
}

impl Promise {
    /// The promise of a ledger that begins with `header`.
    pub(super) fn new(header: &Header) -> Self {
        Self {
            header: header.clone(),
            claim: None,
        }
    }

    /// Checks the next record against the header: every round costs what was planned and is divided by the planned cohort,
    /// claims stand at the planned δ and never fall, and the end claims what the last charge did.
    pub(super) fn check(&mut self, body: &Body) -> Result<(), String> {
        let header = &self.header;
        let same = |what: &str, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(format!("`{what}` is not what the header promises"))
            }
        };
        match body {
            Body::Reserve(reserve) => same("event", reserve.event == header.round_event),
            Body::Charge(charge) => {
                same("event", charge.event == header.round_event)?;
                same("divisor", charge.divisor.to_bits() == header.cohort.to_bits())?;
                self.check_terms(&charge.claim)?;
                let before = self.claim.as_ref().map_or(0.0, epsilon);
                if epsilon(&charge.claim) < before {
                    let now = epsilon(&charge.claim);
                    return Err(format!(
                        "expected a claim of at least {before}, as before, got {now}"
                    ));
                }
                self.claim = Some(charge.claim.clone());
                Ok(())
            }
            Body::Close(close) => {
                self.check_terms(&close.claim)?;
                let charged = self.claim.as_ref().map_or(0.0, epsilon);
                if epsilon(&close.claim).total_cmp(&charged).is_ne() {
                    let got = epsilon(&close.claim);
                    return Err(format!("expected a claim of {charged}, as charged, got {got}"));
                }
                Ok(())
            }
            Body::Header(_) | Body::Release(_) | Body::Resume(_) | Body::Void(_) => Ok(()),
        }
    }

    fn check_terms(&self, claim: &Claim) -> Result<(), String> {
        if claim.delta.to_bits() != self.header.delta.to_bits() || claim.accountant != self.header.accountant
        {
            return Err(format!(
                "expected a claim at delta {} by {}, got one at {} by {}",
                self.header.delta, self.header.accountant, claim.delta, claim.accountant
            ));
        }
        Ok(())
    }
}

fn epsilon(claim: &Claim) -> f64 {
    claim.epsilon.unwrap_or(f64::INFINITY)
}
