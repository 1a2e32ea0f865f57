//! The clients of one simulated federation, and the engine that they play against.

mod secure;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use umbel_accounting::ledger::{Body, CloseStatus};
use umbel_accounting::{Epsilon, EpsilonBounds};
use umbel_experiment::{Quality, RoundMetrics};
use umbel_mechanisms::{
    BatchSource, ClipOutcome, CohortSource, Mechanism, NoiseSource, Purpose, SimulationSeed,
};
use umbel_protocol::{
    BudgetExhausted, ClientId, ClientMessage, ClientRound, CommitmentKey, Event, HandleError, Opening,
    Outgoing, Resumed, Run, ServerMessage, Sources, Timestamp,
};
use umbel_train::{
    Dataset, Evaluation, LocalReport, LocalTrainer, TrainingRng, TrainingWorkspace, evaluate_chunk,
    evaluation_chunks,
};

use self::secure::SecureWorld;
use crate::data::refuse_augmentation;
use crate::private_steps::{Audited, Secrets, private_steps};
use crate::tally::Tally;
use crate::{Auditor, Prepared, SimulateError};

/// Where a world's records go. What it returns as an error ends the run.
pub trait Recorder {
    /// Makes a ledger record durable, before anything that depends on it happens.
    fn store(&mut self, record: &Body, opening: Option<&Opening>) -> Result<(), SimulateError>;
}

/// What one call of [`World::step`] did.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    clippy::exhaustive_enums,
    reason = "one value a round, handled at once"
)]
pub enum Step {
    /// No further round will open.
    Ended {
        /// How the run ended.
        status: CloseStatus,
        /// The refusal, where the budget is what ended it.
        exhausted: Option<BudgetExhausted>,
    },
    /// A round was released and evaluated.
    Round(RoundMetrics),
}

/// All clients and the server's engine, with a virtual clock. Memory: for each thread a workspace, an update and its
/// quantised form; nothing grows with the population, and with the cohort only the list of who is in it.
#[derive(Debug)]
pub struct World<'a> {
    auditor: Option<&'a dyn Auditor>,
    prepared: &'a Prepared,
    trainer: LocalTrainer<'a>,
    seeds: SimulationSeed,
    run: Run,
    clock: Timestamp,
    workers: Vec<Worker>,
    /// Where the server sees sums only.
    secure: Option<SecureWorld>,
    clients_trained: u64,
    examples_seen: u64,
}

/// What one thread needs.
#[derive(Debug)]
struct Worker {
    workspace: TrainingWorkspace,
    update: Vec<f32>,
    quantized: Vec<i32>,
}

impl Worker {
    /// Leaves a client's update in `update`, its layers clipped by themselves if that is asked for.
    fn train(
        &mut self,
        prepared: &Prepared,
        auditor: Option<&dyn Auditor>,
        trainer: &LocalTrainer<'_>,
        seeds: &SimulationSeed,
        to: ClientId,
        client: &ClientRound,
    ) -> (LocalReport, Option<ClipOutcome>) {
        let is_played = auditor.is_some_and(|auditor| auditor.update(to, client.round(), &mut self.update));
        let report = if is_played {
            LocalReport::default()
        } else {
            let seed = seeds.derive(Purpose::Shuffling, client.round().0, to.0);
            let mut rng = TrainingRng::from_seed(seed);
            trainer.train(
                client.model(),
                prepared.examples(to),
                &mut rng,
                &mut self.workspace,
                &mut self.update,
            )
        };
        // The layers are those of the model, so their lengths add up to the update's.
        let layers = prepared.layer_clip.as_ref();
        (
            report,
            layers.and_then(|layers| layers.clip(&mut self.update).ok()),
        )
    }

    /// What a client does in a round: it trains, and reports what may leave it.
    fn answer(
        &mut self,
        prepared: &Prepared,
        auditor: Option<&dyn Auditor>,
        trainer: &LocalTrainer<'_>,
        seeds: &SimulationSeed,
        to: ClientId,
        client: ClientRound,
    ) -> (ClientMessage, LocalReport, ClipOutcome) {
        let (round, examples) = (client.round().0, prepared.examples(to));
        let noise = || NoiseSource::simulated(*seeds).client_streams(round, to.0);
        let train = |worker: &mut Self| worker.train(prepared, auditor, trainer, seeds, to, &client);
        match &prepared.plan.settings().mechanism {
            Mechanism::Local(mechanism) => match mechanism.plan().steps {
                Some(steps) => {
                    let coins = BatchSource::simulated(*seeds).stream(round, to.0);
                    let dropout = seeds.derive(Purpose::Training, round, to.0);
                    let secrets = Secrets::new(coins, noise(), &dropout);
                    // An auditor that plays the client's own data leaves it nothing but what it adds.
                    let is_played =
                        auditor.is_some_and(|auditor| auditor.update(to, client.round(), &mut self.update));
                    let task = (&client.model()[..], if is_played { &[] } else { examples });
                    let audited = auditor.map(|auditor| Audited {
                        auditor,
                        client: to,
                        round: client.round(),
                    });
                    let report = private_steps(
                        trainer,
                        mechanism,
                        steps,
                        task,
                        secrets,
                        (&mut self.workspace, &mut self.update),
                        audited.as_ref(),
                    );
                    let (message, outcome) = client.report(&self.update, std::mem::take(&mut self.quantized));
                    (message, report, outcome)
                }
                None => {
                    let (report, by_layer) = train(self);
                    let buffer = std::mem::take(&mut self.quantized);
                    let (private, outcome) = mechanism.privatize(&self.update, &noise(), buffer);
                    let (message, _) = client.report(&private, Vec::new());
                    (message, report, by_layer.unwrap_or(outcome))
                }
            },
            _ => {
                let (report, by_layer) = train(self);
                let (message, outcome) = client.report(&self.update, std::mem::take(&mut self.quantized));
                (message, report, by_layer.unwrap_or(outcome))
            }
        }
    }
}

impl<'a> World<'a> {
    /// A world before its first round.
    pub fn new(
        prepared: &'a Prepared,
        commitment: CommitmentKey,
        n_threads: usize,
    ) -> Result<Self, SimulateError> {
        Self::seeded(
            prepared,
            SimulationSeed::new(prepared.seed),
            commitment,
            n_threads,
        )
    }

    /// A world with other coins, noise and shuffling than those of the experiment's own seed; data, split and initial model are the
    /// same.
    pub fn seeded(
        prepared: &'a Prepared,
        seed: SimulationSeed,
        commitment: CommitmentKey,
        n_threads: usize,
    ) -> Result<Self, SimulateError> {
        let run = Run::new(
            prepared.plan.clone(),
            sources(seed, commitment),
            prepared.initial.clone(),
            n_threads,
        )?;
        Self::with_run(prepared, seed, run, n_threads)
    }

    /// A world that goes on where a run was interrupted.
    pub fn resume(
        prepared: &'a Prepared,
        resumed: Resumed,
        commitment: CommitmentKey,
        n_threads: usize,
    ) -> Result<Self, SimulateError> {
        let initial = prepared.initial.clone();
        let seed = SimulationSeed::new(prepared.seed);
        let run = Run::resume(
            prepared.plan.clone(),
            sources(seed, commitment),
            initial,
            resumed,
            n_threads,
        )?;
        Self::with_run(prepared, seed, run, n_threads)
    }

    fn with_run(
        prepared: &'a Prepared,
        seeds: SimulationSeed,
        run: Run,
        n_threads: usize,
    ) -> Result<Self, SimulateError> {
        let trainer = LocalTrainer::new(prepared.model.as_ref(), &prepared.train, prepared.training)
            .map_err(|error| SimulateError::Setting {
                key: "training",
                reason: error.to_string(),
            })?
            .with_augmentation(prepared.augmentation)
            .map_err(refuse_augmentation)?;
        let dimension = prepared.initial.len();
        let workers = (0..n_threads.max(1))
            .map(|_| Worker {
                workspace: TrainingWorkspace::new(),
                update: vec![0.0; dimension],
                quantized: Vec::new(),
            })
            .collect();
        Ok(Self {
            auditor: None,
            prepared,
            trainer,
            seeds,
            run,
            clock: Timestamp::default(),
            workers,
            secure: SecureWorld::new(prepared, seeds, n_threads),
            clients_trained: 0,
            examples_seen: 0,
        })
    }

    /// Lets `auditor` play clients of its own, in a run without secure aggregation: there no report can be shown.
    pub fn with_auditor(mut self, auditor: &'a dyn Auditor) -> Self {
        self.auditor = Some(auditor);
        self
    }

    /// Plays one round, or finds that there is none left. Once `stop` is set the open round is abandoned.
    pub fn step(&mut self, recorder: &mut dyn Recorder, stop: &AtomicBool) -> Result<Step, SimulateError> {
        // Whatever waits to be stored from before: a header, or the mark that the run was resumed.
        let mut tally = Tally::default();
        if let Some(step) = self.drain(recorder, &tally)? {
            return Ok(step);
        }
        if self.secure.is_some() {
            return self.secure_round(recorder, stop);
        }
        if stop.load(Ordering::Relaxed) {
            self.run.handle_abandon("stopped on request".to_owned())?;
        } else {
            self.run.handle_start(self.clock)?;
        }
        if let Some(step) = self.drain(recorder, &tally)? {
            return Ok(step);
        }
        if let Some(deadline) = self.run.poll_timeout() {
            tally = self.train(stop)?;
            if stop.load(Ordering::Relaxed) {
                self.run.handle_abandon("stopped on request".to_owned())?;
            } else {
                self.clock = deadline;
                self.run.handle_timeout(deadline)?;
            }
        }
        match self.drain(recorder, &tally)? {
            Some(step) => Ok(step),
            None => unreachable!("an open round is released, or the run ends"),
        }
    }

    /// Ends the run before its last round, as its plan must allow.
    pub(crate) fn finish(&mut self, recorder: &mut dyn Recorder) -> Result<Step, SimulateError> {
        let tally = Tally::default();
        // A run that was resumed has a mark of that to store.
        if let Some(step) = self.drain(recorder, &tally)? {
            return Ok(step);
        }
        self.run.handle_finish()?;
        match self.drain(recorder, &tally)? {
            Some(step) => Ok(step),
            None => unreachable!("a run that is finished says that it ended"),
        }
    }

    /// The server's engine.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The server's engine, to close it.
    pub(crate) fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Clients trained so far.
    pub fn clients_trained(&self) -> u64 {
        self.clients_trained
    }

    /// Examples visited so far, once for each epoch.
    pub fn examples_seen(&self) -> u64 {
        self.examples_seen
    }

    /// Stores what the engine still has to say after it was closed.
    pub(crate) fn drain_records(&mut self, recorder: &mut dyn Recorder) -> Result<(), SimulateError> {
        self.drain(recorder, &Tally::default()).map(|_| ())
    }

    /// Does what the engine asks, until it waits for something else than storage.
    fn drain(&mut self, recorder: &mut dyn Recorder, tally: &Tally) -> Result<Option<Step>, SimulateError> {
        let mut step = None;
        while let Some(event) = self.run.poll_event() {
            match event {
                Event::Store {
                    token,
                    record,
                    opening,
                } => {
                    recorder.store(&record, opening.as_ref())?;
                    self.run.handle_stored(token)?;
                }
                Event::Released {
                    round,
                    parameters,
                    spent,
                    counts,
                    clip_norm,
                } => {
                    let evaluation = self.evaluate(&parameters, &self.prepared.test);
                    let validation = self.prepared.validation.as_ref();
                    let validation = validation.map(|examples| self.evaluate(&parameters, examples));
                    let finite = |epsilon: Epsilon| Some(epsilon.value()).filter(|value| value.is_finite());
                    let EpsilonBounds { lower, upper } = spent;
                    step = Some(Step::Round(RoundMetrics {
                        round: round.0,
                        loss: evaluation.mean_loss(),
                        accuracy: evaluation.accuracy(),
                        epsilon: finite(upper),
                        epsilon_lower: lower.and_then(finite),
                        delta: self.prepared.plan.settings().delta.value(),
                        clip_norm: self.prepared.adaptive_clip().map(|_| clip_norm.value()),
                        validation: validation.map(|evaluation| Quality {
                            loss: evaluation.mean_loss(),
                            accuracy: evaluation.accuracy(),
                        }),
                        simulator_only: Some(tally.simulator_only(counts)),
                    }));
                }
                Event::Ended { status, exhausted } => step = Some(Step::Ended { status, exhausted }),
                Event::Voided { .. } => {}
            }
        }
        Ok(step)
    }

    /// Lets every invited client train and report. Threads take the next invitation from the engine and bring the report
    /// back to it; in between they share nothing.
    fn train(&mut self, stop: &AtomicBool) -> Result<Tally, SimulateError> {
        let (prepared, trainer, seeds) = (self.prepared, self.trainer, &self.seeds);
        let auditor = self.auditor;
        let run = Mutex::new(&mut self.run);
        let total = Mutex::new(Ok::<_, HandleError>(Tally::default()));
        thread::scope(|scope| {
            for worker in &mut self.workers {
                let (run, total) = (&run, &total);
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    let result = loop {
                        let next = run.lock().unwrap_or_else(PoisonError::into_inner).poll_outgoing();
                        let Some(Outgoing {
                            to,
                            message: ServerMessage::Invite(invitation),
                        }) = next
                        else {
                            break Ok(());
                        };
                        if stop.load(Ordering::Relaxed) {
                            break Ok(());
                        }
                        let client = ClientRound::new(invitation);
                        let (message, report, outcome) =
                            worker.answer(prepared, auditor, &trainer, seeds, to, client);
                        tally.add(report, outcome);
                        if let Some(auditor) = auditor {
                            auditor.report(to, &message);
                        }
                        match run
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .handle_message(to, message)
                        {
                            Ok(buffer) => worker.quantized = buffer,
                            Err(fault) => break Err(HandleError::ClientFault(fault)),
                        }
                    };
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    match (result, total.as_mut()) {
                        (Ok(()), Ok(sum)) => sum.merge(tally),
                        (Err(error), _) => *total = Err(error),
                        (Ok(()), Err(_)) => {}
                    }
                });
            }
        });
        let tally = total.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        self.clients_trained += tally.clients();
        self.examples_seen += tally.examples_seen();
        Ok(tally)
    }

    /// Evaluates a model on public examples, on all threads; parts are added in a fixed order.
    fn evaluate(&mut self, parameters: &Arc<[f32]>, examples: &Dataset) -> Evaluation {
        let prepared = self.prepared;
        let chunks: Vec<_> = evaluation_chunks(examples.n_examples()).collect();
        let results: Vec<OnceLock<Evaluation>> = chunks.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for worker in &mut self.workers {
                let (chunks, results, next) = (&chunks, &results, &next);
                scope.spawn(move || {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(range) = chunks.get(place).cloned() else {
                            break;
                        };
                        let model = prepared.model.as_ref();
                        let part = evaluate_chunk(model, parameters, examples, range, &mut worker.workspace);
                        // Each place is taken once.
                        let _ = results[place].set(part);
                    }
                });
            }
        });
        let mut total = Evaluation::default();
        for part in results.into_iter().filter_map(OnceLock::into_inner) {
            total.add(part);
        }
        total
    }
}

/// The simulation's random sources: all derived from the seed, each for its own purpose.
fn sources(seed: SimulationSeed, commitment: CommitmentKey) -> Sources {
    Sources {
        cohort: CohortSource::simulated(seed),
        noise: NoiseSource::simulated(seed),
        commitment,
    }
}
