//! Attempts of secure aggregation in a served round.
//!
//! A step ends when everybody who is waited for has answered, or when its share of the round's time is over: who takes part is no
//! secret here, so that a count may end it. Nothing of an attempt is stored, as its secrets are in memory only. What is stored is the
//! charge, and that before the message by which clients open the sum is made. So a server that is killed before the charge voids the attempt
//! when it starts again, and one that is killed after it has lost the sum: the charge stays, and the model as it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tonic::Status;
use tracing::{debug, info, warn};
use umbel_protocol::{ClientId, Invitation, Outgoing, RoundId, ServerMessage, Timestamp};
use umbel_secagg::{Abort, Fault, MessageKind, Server, ServerKey, federation_of};
use umbel_sim::{ServedRound, served_round_config};
use umbel_wire::aggregation::Place;
use umbel_wire::{ExpectedReport, OutgoingInvitation};

use super::{Driver, GLANCE};
use crate::ServerError;
use crate::view::{AttemptStep, OpenStage, Stage};

/// After so many attempts of one round in a row that fell short the settings or the clients are at fault, not chance.
const MOST_ATTEMPTS: u32 = 50;

/// When each step ends at the latest, as shares of the round's time. Clients fetch the model before the first ends, and train before
/// the third does.
const STEP_ENDS: [f64; 5] = [0.25, 0.4, 0.8, 0.9, 1.0];

/// What secure aggregation needs beside the run.
#[derive(Debug)]
pub(crate) struct SecureRounds {
    authority: [u8; 32],
    key: ServerKey,
    attempt: Option<Attempt>,
    /// Attempts in a row that fell short.
    n_short: u32,
}

/// An attempt that is open.
#[derive(Debug)]
struct Attempt {
    server: Server,
    stage: Arc<OpenStage>,
    step: AttemptStep,
    opened: Timestamp,
    /// How many messages this step waits for.
    n_expected: usize,
    /// Whose messages of this and earlier steps were taken.
    taken: BTreeSet<(AttemptStep, u64)>,
    /// The message of this step that is the same for all.
    common: Bytes,
    /// The sum could not be opened with the shares that have come; more may come.
    is_stuck: bool,
}

impl SecureRounds {
    /// `authority` certifies clients, `key` signs what the server says.
    pub(crate) fn new(authority: [u8; 32], key: ServerKey) -> Self {
        Self {
            authority,
            key,
            attempt: None,
            n_short: 0,
        }
    }
}

impl Attempt {
    fn place(&self) -> (u64, u32) {
        (self.server.config().round, self.server.config().attempt)
    }

    /// When this step ends at the latest.
    fn step_deadline(&self) -> Timestamp {
        let whole = self
            .stage
            .deadline
            .since_start()
            .saturating_sub(self.opened.since_start());
        let share = STEP_ENDS.get(self.step as usize).copied().unwrap_or(1.0);
        self.opened.after(whole.mul_f64(share))
    }

    fn n_answered(&self) -> usize {
        self.taken.iter().filter(|(step, _)| *step == self.step).count()
    }

    fn n_missing(&self) -> usize {
        self.n_expected.saturating_sub(self.n_answered())
    }

    /// Whether nobody is waited for any more.
    fn is_complete(&self) -> bool {
        self.n_missing() == 0 && !self.is_stuck
    }

    /// Begins the next step, which waits for those who have answered in this one.
    fn go_on(&mut self, step: AttemptStep, common: Vec<u8>) {
        self.n_expected = self.n_answered();
        self.step = step;
        self.common = common.into();
        let (round, attempt) = self.place();
        debug!(round, attempt, step = step.name(), "the attempt goes on");
        self.show();
    }

    /// Lets those who serve clients see the step.
    fn show(&self) {
        if let Some(view) = &self.stage.attempt {
            view.n_missing.store(self.n_missing(), Ordering::Relaxed);
            view.step.send_replace(self.step);
        }
    }

    /// Takes a client's message of the step that it belongs to.
    fn take(&mut self, kind: MessageKind, number: u64, message: &[u8]) -> Result<(), Status> {
        let step = AttemptStep::of(kind);
        if self.taken.contains(&(step, number)) {
            return Err(Status::already_exists(
                "this message was taken already; the first stands",
            ));
        }
        let taken = match kind {
            MessageKind::Advertisement => self.server.handle_advertisement(message),
            MessageKind::Shares => self.server.handle_shares(message),
            MessageKind::MaskedInput => self.server.handle_masked_input(message),
            MessageKind::Confirmation => self.server.handle_confirmation(message),
            MessageKind::OpenedShares => self.server.handle_opened_shares(message),
            _ => return Err(Status::invalid_argument("expected a message that clients send")),
        };
        taken.map_err(|fault| status_of(&fault))?;
        self.taken.insert((step, number));
        if let Some(view) = &self.stage.attempt {
            view.n_missing.store(self.n_missing(), Ordering::Relaxed);
        }
        // More shares may be what was missing.
        self.is_stuck = false;
        Ok(())
    }
}

impl Driver {
    /// Whether an attempt is open.
    pub(super) fn is_in_attempt(&self) -> bool {
        self.attempt().is_some()
    }

    /// Whether the open attempt is charged, and its sum not yet opened.
    pub(super) fn is_opening(&self) -> bool {
        self.attempt()
            .is_some_and(|attempt| attempt.step == AttemptStep::Opening)
    }

    fn attempt(&self) -> Option<&Attempt> {
        self.secure.as_ref()?.attempt.as_ref()
    }

    /// Tells everybody who waits that the attempt is over.
    pub(super) fn end_attempt(&mut self) {
        let attempt = self.secure.as_mut().and_then(|secure| secure.attempt.take());
        if let Some(mut attempt) = attempt {
            attempt.step = AttemptStep::Over;
            attempt.show();
        }
    }

    /// Offers the round that has just opened to its cohort.
    pub(super) fn open_attempt(&mut self) -> Result<(), ServerError> {
        let Some(deadline) = self.run.poll_timeout() else {
            return Ok(());
        };
        let (mut invited, mut last) = (BTreeSet::new(), None);
        while let Some(Outgoing { to, message }) = self.run.poll_outgoing() {
            if let ServerMessage::Invite(invitation) = message {
                invited.insert(to);
                last = Some(invitation);
            }
        }
        let Some(invitation) = last else {
            return self.fall_short(deadline, "nobody was drawn".to_owned());
        };
        match self.new_attempt(&invitation, invited) {
            Ok(attempt) => {
                let (round, number) = attempt.place();
                info!(round, attempt = number, "round open for secure aggregation");
                let stage = Arc::clone(&attempt.stage);
                if let Some(secure) = &mut self.secure {
                    secure.attempt = Some(attempt);
                }
                self.publish(Stage::Open(stage));
                Ok(())
            }
            Err(abort) => self.fall_short(deadline, abort.to_string()),
        }
    }

    fn new_attempt(&self, invitation: &Invitation, invited: BTreeSet<ClientId>) -> Result<Attempt, Abort> {
        let (Some(secure), Some(terms)) = (
            &self.secure,
            self.run.plan().settings().secure_aggregation.as_ref(),
        ) else {
            unreachable!("only a run with secure aggregation has attempts")
        };
        let indicator = usize::from(invitation.clip_indicator.is_some());
        let dimension = invitation.model.len() + indicator;
        let settings = self.run.plan().settings();
        let config = served_round_config(
            settings,
            terms,
            &ServedRound {
                federation: federation_of(&secure.authority),
                run: self.ledger.public_key(),
                round: invitation.round,
                attempt: u32::try_from(self.run.attempt()).unwrap_or(u32::MAX),
                model: &invitation.model,
                dimension,
                duration: settings.round_duration,
            },
        );
        let server = Server::new(config.clone(), secure.authority, secure.key.clone());
        let outgoing = OutgoingInvitation::new(invitation).with_offer(server.offer()?.into());
        let expected = ExpectedReport {
            clip_norm: invitation.clip_norm,
            n_parameters: dimension,
        };
        let n_expected = invited.len();
        let stage = OpenStage::new(invitation.round, invitation.deadline, outgoing, expected, invited)
            .with_attempt(config);
        Ok(Attempt {
            server,
            stage: Arc::new(stage),
            step: AttemptStep::Advertising,
            opened: self.shared.clock.now(),
            n_expected,
            taken: BTreeSet::new(),
            common: Bytes::new(),
            is_stuck: false,
        })
    }

    /// Waits for messages, or ends the step.
    pub(super) fn play_attempt(&mut self) -> Result<(), ServerError> {
        let now = self.shared.clock.now();
        let Some(attempt) = self.secure.as_mut().and_then(|secure| secure.attempt.as_mut()) else {
            return Ok(());
        };
        let deadline = attempt.step_deadline();
        if !attempt.is_complete() && now < deadline {
            let left = deadline.since_start().saturating_sub(now.since_start());
            return self.take_commands(left.min(GLANCE).max(Duration::from_millis(1)));
        }
        let closed = match attempt.step {
            AttemptStep::Advertising => attempt
                .server
                .close_advertising()
                .map(|roster| attempt.go_on(AttemptStep::Sharing, roster)),
            AttemptStep::Sharing => attempt
                .server
                .close_sharing()
                .map(|()| attempt.go_on(AttemptStep::Masking, Vec::new())),
            AttemptStep::Masking => attempt
                .server
                .close_masking()
                .map(|()| attempt.go_on(AttemptStep::Confirming, Vec::new())),
            AttemptStep::Confirming => match attempt.server.close_confirming() {
                Ok(_) => return self.charge_attempt(),
                Err(abort) => Err(abort),
            },
            AttemptStep::Opening => return self.finish_attempt(now >= deadline),
            AttemptStep::Over => Ok(()),
        };
        match closed {
            Ok(()) => Ok(()),
            Err(abort) => {
                let until = attempt.stage.deadline;
                self.fall_short(until, abort.to_string())
            }
        }
    }

    /// Enough have confirmed: the charge is stored, and only then the clients are asked to open shares.
    fn charge_attempt(&mut self) -> Result<(), ServerError> {
        let survivors = self
            .attempt()
            .and_then(|attempt| attempt.server.survivor_list())
            .map_or(0, |list| list.len());
        self.run.handle_confirmed(survivors as u64)?;
        self.settle()?;
        let charge = self.ledger.head();
        let Some(attempt) = self.secure.as_mut().and_then(|secure| secure.attempt.as_mut()) else {
            return Ok(());
        };
        match attempt.server.charge(charge) {
            Ok(request) => {
                attempt.go_on(AttemptStep::Opening, request);
                Ok(())
            }
            Err(abort) => self.lose_sum(&abort),
        }
    }

    /// Opens the sum with the shares that have come. `is_last` says that no more will.
    fn finish_attempt(&mut self, is_last: bool) -> Result<(), ServerError> {
        let n_threads = crate::start::threads();
        let Some(attempt) = self.secure.as_mut().and_then(|secure| secure.attempt.as_mut()) else {
            return Ok(());
        };
        match attempt.server.finish(n_threads) {
            Ok(sum) => {
                if !sum.wrong_holders.is_empty() {
                    warn!(clients = ?sum.wrong_holders, "opened shares that they were not dealt; these were not used");
                }
                let (round, survivors, dropped) = (attempt.place().0, sum.survivors.len(), sum.dropped.len());
                info!(round, survivors, dropped, "sum opened");
                if let Some(secure) = &mut self.secure {
                    secure.n_short = 0;
                }
                self.run.handle_sum(Some(sum.values))?;
                self.settle()
            }
            Err(Abort::Unrecoverable { .. }) if !is_last => {
                attempt.is_stuck = true;
                Ok(())
            }
            Err(abort) => self.lose_sum(&abort),
        }
    }

    /// The sum cannot be opened any more: the charge stays, and the model as it was.
    fn lose_sum(&mut self, abort: &Abort) -> Result<(), ServerError> {
        warn!("the charged sum is lost, its charge stays, the model does not change: {abort}");
        self.run.handle_sum(None)?;
        self.settle()
    }

    /// Gives the attempt up before anything was charged. Another begins once the round's time would have been over.
    fn fall_short(&mut self, until: Timestamp, reason: String) -> Result<(), ServerError> {
        let round = self.run.rounds() + 1;
        let attempt = self.run.attempt();
        warn!(
            round,
            attempt, "the attempt fell short, another follows: {reason}"
        );
        self.run.handle_shortfall(reason.clone())?;
        self.settle()?;
        self.next_start = until;
        self.publish(Stage::Waiting { until });
        let n_short = self.secure.as_mut().map_or(0, |secure| {
            secure.n_short += 1;
            secure.n_short
        });
        if n_short >= MOST_ATTEMPTS {
            return Err(ServerError::FellShort {
                round: RoundId(round).0,
                attempts: n_short,
                reason,
            });
        }
        Ok(())
    }

    /// Takes a client's message of the open attempt.
    pub(super) fn deliver(
        &mut self,
        client: ClientId,
        place: Place,
        number: u64,
        message: &[u8],
    ) -> Result<(), Status> {
        let attempt = self.secure.as_mut().and_then(|secure| secure.attempt.as_mut());
        let over = || Status::failed_precondition("this attempt is over");
        let attempt = attempt
            .filter(|attempt| attempt.place() == (place.round, place.attempt))
            .ok_or_else(over)?;
        attempt.take(place.kind, number, message)?;
        if place.kind == MessageKind::Advertisement {
            // Not invited again: whoever begins anew has other keys.
            attempt.stage.note_report(client);
        }
        Ok(())
    }

    /// The server's message of this step for one client.
    pub(super) fn message_for(&self, place: Place, number: u64) -> Option<Bytes> {
        let attempt = self.attempt().filter(|attempt| {
            attempt.place() == (place.round, place.attempt) && attempt.step == AttemptStep::of(place.kind)
        })?;
        match place.kind {
            MessageKind::Roster => {
                let advertised = (AttemptStep::Advertising, number);
                attempt
                    .taken
                    .contains(&advertised)
                    .then(|| attempt.common.clone())
            }
            MessageKind::MaskRequest => attempt.server.mask_request(number).map(Bytes::from),
            MessageKind::Survivors => attempt.server.survivors(number).map(Bytes::from),
            MessageKind::UnmaskRequest => {
                let sent = (AttemptStep::Masking, number);
                attempt.taken.contains(&sent).then(|| attempt.common.clone())
            }
            _ => None,
        }
    }
}

fn status_of(fault: &Fault) -> Status {
    let text = fault.to_string();
    match fault {
        Fault::AlreadySent { .. } => Status::already_exists(text),
        Fault::WrongStep { .. } => Status::failed_precondition(text),
        Fault::Decode(_) | Fault::Key { .. } | Fault::Length { .. } => Status::invalid_argument(text),
        _ => Status::permission_denied(text),
    }
}
