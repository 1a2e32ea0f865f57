//! Drives the round engine: one thread that owns the run and the database, tells the engine the time, and stores whatever it asks to
//! have stored before it goes on. Attempts of secure aggregation are in `driver/secure.rs`.

mod secure;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tracing::{error, info, warn};
use umbel_accounting::ledger::{Body, CloseStatus, LedgerWriter};
use umbel_accounting::{Epsilon, EpsilonBounds};
use umbel_experiment::RoundMetrics;
use umbel_protocol::{ClientId, Event, OpenRound, Outgoing, RoundId, Run, ServerMessage, Timestamp};
use umbel_sim::{ServerTask, checkpoint};
use umbel_train::{TrainingWorkspace, evaluate};
use umbel_wire::{ExpectedReport, OutgoingInvitation};

pub(crate) use self::secure::SecureRounds;
use crate::store::{Store, StoreError, With};
use crate::view::{Command, OpenStage, Shared, Stage, View};
use crate::{ServerError, State, export, metrics};

/// The longest that the driver waits without looking at the clock.
const GLANCE: Duration = Duration::from_millis(50);

/// How often the database is asked whether somebody wants the run to stop.
const STOP_POLL: Duration = Duration::from_secs(1);

/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_millis(500);

/// The most commands that are dealt with before what they changed is stored.
const BATCH: usize = 256;

/// How the driver came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DriverEnd {
    /// The run is over and closed, its run directory written.
    Closed(CloseStatus),
    /// The server was told to shut down; the run goes on when it is started again.
    ShutDown,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) run: Run,
    pub(crate) run_id: i64,
    pub(crate) store: Store,
    pub(crate) ledger: LedgerWriter,
    pub(crate) task: Arc<ServerTask>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) shut_down: Arc<AtomicBool>,
    pub(crate) state: State,
    pub(crate) out: PathBuf,
    pub(crate) simulated: bool,
    pub(crate) next_start: Timestamp,
    /// The last round whose release was on the ledger when the server started.
    pub(crate) released: u64,
    /// Its clip norm.
    pub(crate) released_clip_norm: f64,
    pub(crate) ended: Option<CloseStatus>,
    /// The summary that the closing record is about.
    pub(crate) summary: String,
    pub(crate) asked_to_stop: Instant,
    /// Where the server sees sums only.
    pub(crate) secure: Option<SecureRounds>,
}

impl Driver {
    /// Plays the rounds that are left. `reopened` is the round that was open when the run was interrupted, if it goes on.
    pub(crate) fn drive(mut self, reopened: Option<&OpenRound>) -> Result<DriverEnd, ServerError> {
        self.settle()?;
        self.measure_missing()?;
        if self.run.poll_timeout().is_some() {
            info!(round = self.run.rounds() + 1, "the round that was open goes on");
            self.open(reopened)?;
        }
        loop {
            self.take_commands(Duration::ZERO)?;
            if let Some(status) = self.ended {
                return self.close(status).map(DriverEnd::Closed);
            }
            if self.is_opening() {
                // A charged round is finished first: its sum would be lost.
                self.play_attempt()?;
                continue;
            }
            if self.shut_down.load(Ordering::Relaxed) {
                self.end_attempt();
                self.change_view(|view| view.closing = true);
                return Ok(DriverEnd::ShutDown);
            }
            let now = self.shared.clock.now();
            if self.stop_requested()? {
                self.run
                    .handle_abandon("stopped on request".to_owned())
                    .map_err(umbel_protocol::HandleError::from)?;
                self.settle()?;
                continue;
            }
            if self.is_in_attempt() {
                self.play_attempt()?;
                continue;
            }
            let wake = match self.run.poll_timeout() {
                Some(deadline) if now >= deadline => {
                    self.run.handle_timeout(now)?;
                    self.settle()?;
                    continue;
                }
                None if now >= self.next_start => {
                    self.run.handle_start(now)?;
                    self.settle()?;
                    self.open(None)?;
                    continue;
                }
                Some(deadline) => deadline,
                None => self.next_start,
            };
            let left = wake.since_start().saturating_sub(now.since_start());
            self.take_commands(left.min(GLANCE))?;
        }
    }

    /// Stores what a run begins or goes on with before any client is served, so that its header can be shown to all.
    pub(crate) fn store_header(&mut self) -> Result<(), ServerError> {
        self.settle()
    }

    /// Does what the engine asks, until it waits for something else than storage.
    fn settle(&mut self) -> Result<(), ServerError> {
        while let Some(event) = self.run.poll_event() {
            match event {
                Event::Store {
                    token,
                    record,
                    opening,
                } => {
                    self.store_record(&record, opening.as_ref().map(|opening| opening.as_str()))?;
                    self.run.handle_stored(token)?;
                }
                Event::Released {
                    round,
                    parameters,
                    spent,
                    clip_norm,
                    ..
                } => {
                    self.end_attempt();
                    let metrics = self.measure(round, &parameters, spent, clip_norm.value());
                    self.keep(metrics)?;
                    self.next_start = self.shared.clock.now();
                    self.publish(Stage::Waiting {
                        until: self.next_start,
                    });
                }
                Event::Voided { round } => {
                    self.end_attempt();
                    info!(
                        round = round.0,
                        "round voided: nothing was learnt, nothing is charged"
                    );
                }
                Event::Ended { status, exhausted } => {
                    if let Some(exhausted) = exhausted {
                        warn!("{exhausted}");
                    }
                    self.ended = Some(status);
                }
            }
        }
        Ok(())
    }

    /// Makes a record durable, with what has to become durable in the same instant: the sum with its charge, so that a charged
    /// round can be released after a crash; the model with its release, so that none is released twice.
    fn store_record(&mut self, record: &Body, opening: Option<&str>) -> Result<(), ServerError> {
        let summary = self.summary.clone();
        let mut with = With {
            opening,
            ..With::default()
        };
        match record {
            Body::Charge(_) => {
                with.open_round = self.run.open_round().map(|open| open.to_unprotected_bytes());
            }
            Body::Release(_) => with.checkpoint = Some(checkpoint::encode(&self.run.checkpoint())?),
            Body::Void(_) => with.void = true,
            Body::Close(close) => with.end = Some((status_name(close.status), &summary)),
            _ => {}
        }
        let sequence = self.ledger.records();
        let line = self.ledger.append(record)?;
        let run_id = self.run_id;
        self.insist(|store| store.append(run_id, sequence, &line, &with))?;
        let line = Bytes::from(line);
        self.change_view(|view| {
            if let Body::Header(_) = record {
                view.ledger_header = line.clone();
            }
            view.ledger_line = line.clone();
        });
        Ok(())
    }

    /// Stores the round that has just opened, and only then lets clients see it.
    fn open(&mut self, reopened: Option<&OpenRound>) -> Result<(), ServerError> {
        if self.secure.is_some() {
            return self.open_attempt();
        }
        let Some(open) = self.run.open_round() else {
            return Ok(());
        };
        let (run_id, round, deadline) = (self.run_id, open.round(), open.deadline());
        let content = open.to_unprotected_bytes();
        self.insist(|store| store.save_open_round(run_id, round.0, &content, &[]))?;
        let mut invited = BTreeSet::new();
        let mut last = None;
        while let Some(Outgoing { to, message }) = self.run.poll_outgoing() {
            if let ServerMessage::Invite(invitation) = message {
                invited.insert(to);
                last = Some(invitation);
            }
        }
        let Some(invitation) = last else {
            self.publish(Stage::Waiting { until: deadline });
            return Ok(());
        };
        let expected = ExpectedReport {
            clip_norm: invitation.clip_norm,
            n_parameters: invitation.model.len() + usize::from(invitation.clip_indicator.is_some()),
        };
        let invitation = OutgoingInvitation::new(&invitation);
        let stage = OpenStage::new(round, deadline, invitation, expected, invited);
        for client in reopened.into_iter().flat_map(OpenRound::reported) {
            stage.note_report(client);
        }
        info!(round = round.0, "round open");
        self.publish(Stage::Open(Arc::new(stage)));
        Ok(())
    }

    /// Deals with what clients have sent, waiting no longer than `wait` for the first of it. Reports are thanked for once they are
    /// durable: all that came together in one transaction.
    fn take_commands(&mut self, wait: Duration) -> Result<(), ServerError> {
        let first = match self.commands.recv_timeout(wait) {
            Ok(command) => command,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                // Nobody is left who could send anything.
                thread::sleep(wait);
                return Ok(());
            }
        };
        let (mut counted, mut replies) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(command) = next.take().or_else(|| self.commands.try_recv().ok()) else {
                break;
            };
            match command {
                Command::Deliver {
                    client,
                    place,
                    number,
                    message,
                    reply,
                } => drop(reply.send(self.deliver(client, place, number, &message))),
                Command::Fetch { place, number, reply } => drop(reply.send(self.message_for(place, number))),
                Command::Enrol { name, reply } => {
                    let (run_id, population) = (self.run_id, self.shared.facts.population);
                    let client = self.insist(|store| store.enrol(run_id, &name, population))?;
                    if let Some(client) = client {
                        info!(client = name, "enrolled");
                        self.shared.remember(name, client);
                    }
                    // A client that has gone away will ask again.
                    let _ = reply.send(client);
                }
                Command::Refusal {
                    client,
                    round,
                    reason,
                } => {
                    let (run_id, at) = (self.run_id, crate::SystemClock::system_time());
                    self.insist(|store| store.refuse(run_id, at, &client, round, &reason))?;
                }
                Command::Report {
                    client,
                    message,
                    reply,
                } => match self.run.handle_message(client, message) {
                    Ok(_) => {
                        counted.push(client);
                        replies.push(reply);
                    }
                    Err(fault) => drop(reply.send(Err(fault))),
                },
            }
        }
        self.thank(&counted, replies)
    }

    fn thank(
        &mut self,
        counted: &[ClientId],
        replies: Vec<tokio::sync::oneshot::Sender<Result<(), umbel_protocol::ClientFault>>>,
    ) -> Result<(), ServerError> {
        let Some(open) = self.run.open_round().filter(|_| !counted.is_empty()) else {
            return Ok(());
        };
        let (run_id, content) = (self.run_id, open.to_unprotected_bytes());
        self.insist(|store| store.save_open_round(run_id, open.round().0, &content, counted))?;
        metrics::add(&self.shared.counters.reports, counted.len() as u64);
        if let Stage::Open(stage) = &self.shared.current().stage {
            for client in counted {
                stage.note_report(*client);
            }
        }
        for reply in replies {
            let _ = reply.send(Ok(()));
        }
        Ok(())
    }

    /// The quality of a released model on the public test set, which is post-processing.
    fn measure(
        &self,
        round: RoundId,
        parameters: &[f32],
        spent: EpsilonBounds,
        clip_norm: f64,
    ) -> RoundMetrics {
        let mut workspace = TrainingWorkspace::new();
        let evaluation = evaluate(
            self.task.model.as_ref(),
            parameters,
            &self.task.test,
            &mut workspace,
        );
        let finite = |epsilon: Epsilon| Some(epsilon.value()).filter(|value| value.is_finite());
        RoundMetrics {
            round: round.0,
            loss: evaluation.mean_loss(),
            accuracy: evaluation.accuracy(),
            epsilon: finite(spent.upper),
            epsilon_lower: spent.lower.and_then(finite),
            delta: self.shared.facts.delta,
            clip_norm: self.task.clip_norm_moves().then_some(clip_norm),
            validation: None,
            simulator_only: None,
        }
    }

    /// A server that was killed between a release and its evaluation evaluates now.
    fn measure_missing(&mut self) -> Result<(), ServerError> {
        let known = self.shared.current().rounds.last().map_or(0, |last| last.round);
        if self.released > known {
            let metrics = self.measure(
                RoundId(self.released),
                &Arc::clone(self.run.parameters()),
                self.run.spent(),
                self.released_clip_norm,
            );
            self.keep(metrics)?;
        }
        Ok(())
    }

    fn keep(&mut self, metrics: RoundMetrics) -> Result<(), ServerError> {
        let line = serde_json::to_string(&metrics).map_err(|error| ServerError::System(error.to_string()))?;
        let run_id = self.run_id;
        self.insist(|store| store.save_metrics(run_id, metrics.round, &line))?;
        info!(
            round = metrics.round,
            of = self.shared.facts.planned_rounds,
            loss = format_args!("{:.4}", metrics.loss),
            accuracy = format_args!("{:.4}", metrics.accuracy),
            epsilon = format_args!("{:.4}", metrics.epsilon.unwrap_or(f64::INFINITY)),
            delta = metrics.delta,
            "round released"
        );
        self.change_view(|view| Arc::make_mut(&mut view.rounds).push(metrics.clone()));
        Ok(())
    }

    /// Leaves model, summary, closing record and run directory.
    fn close(&mut self, status: CloseStatus) -> Result<CloseStatus, ServerError> {
        let model = export::model_file(&self.task, self.run.parameters(), self.run.checkpoint().round);
        let model_sha256 = Sha256::digest(&model).into();
        let rounds = Arc::clone(&self.shared.current().rounds);
        self.summary = export::summary(&export::Ending {
            task: &self.task,
            status,
            rounds: &rounds,
            spent: self.run.spent(),
            simulated: self.simulated,
            seconds: self.shared.clock.now().since_start().as_secs_f64(),
            model_sha256,
            ledger: &self.ledger,
        })?;
        let summary_sha256 = Sha256::digest(self.summary.as_bytes()).into();
        self.run
            .handle_close(model_sha256, summary_sha256)
            .map_err(umbel_protocol::HandleError::from)?;
        self.settle()?;
        export::export(&self.state, &self.shared.facts.name, &self.out)?;
        info!(out = %self.out.display(), "run {}", status_name(status));
        self.publish(Stage::Over(status));
        Ok(status)
    }

    /// Whether the database says that somebody wants the run to stop; asked now and then.
    fn stop_requested(&mut self) -> Result<bool, ServerError> {
        if self.asked_to_stop.elapsed() < STOP_POLL {
            return Ok(false);
        }
        self.asked_to_stop = Instant::now();
        let run_id = self.run_id;
        self.insist(|store| store.stop_requested(run_id))
    }

    /// Repeats what the storage cannot do now (a full disk, a lock) until it can: nothing goes on before it is stored.
    fn insist<T>(
        &mut self,
        mut work: impl FnMut(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, ServerError> {
        let mut failed = false;
        loop {
            match work(&mut self.store) {
                Ok(value) => {
                    if failed {
                        info!("the storage works again");
                        self.change_view(|view| view.trouble = None);
                    }
                    return Ok(value);
                }
                Err(error) if error.may_pass() && !self.shut_down.load(Ordering::Relaxed) => {
                    if !failed {
                        error!("{error}; nothing goes on before this is stored");
                        self.change_view(|view| view.trouble = Some(error.to_string()));
                    }
                    failed = true;
                    thread::sleep(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn publish(&self, stage: Stage) {
        self.change_view(|view| view.stage = stage.clone());
    }

    fn change_view(&self, change: impl Fn(&mut View)) {
        self.shared.view.send_modify(|view| change(Arc::make_mut(view)));
    }
}

/// The name of an end as the database and the summary hold it.
pub(crate) fn status_name(status: CloseStatus) -> &'static str {
    match status {
        CloseStatus::BudgetExhausted => "budget-exhausted",
        CloseStatus::Finished => "finished",
        CloseStatus::Interrupted => "interrupted",
    }
}
