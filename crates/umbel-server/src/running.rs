//! A server that runs: its sockets, its driver, and how both come to an end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tracing::info;
use umbel_accounting::ledger::CloseStatus;
use umbel_protocol::OpenRound;
use umbel_wire::proto::federation_server::FederationServer;
use umbel_wire::{limits, transport};

use crate::driver::{Driver, DriverEnd, status_name};
use crate::listener::{self, TlsState};
use crate::service::Service;
use crate::start::Prepared;
#[cfg(feature = "simulated-randomness")]
use crate::view::Shared;
use crate::{ServerError, ServerSettings, admin};

/// How long clients are still told that the run is over, before the server ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long calls may take to end once the server is told to.
const DRAIN: Duration = Duration::from_secs(10);

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever starts a server must handle every end"
)]
pub enum Ended {
    /// The run had ended before the server was started.
    Before(CloseStatus),
    /// The run ended.
    Run(CloseStatus),
    /// The server was told to shut down; the run goes on when it is started again.
    ShutDown,
}

impl Ended {
    pub(crate) fn over_before(status: &str) -> Self {
        let all = [CloseStatus::BudgetExhausted, CloseStatus::Finished];
        let found = all.into_iter().find(|end| status_name(*end) == status);
        Self::Before(found.unwrap_or(CloseStatus::Interrupted))
    }
}

pub(crate) struct Sockets {
    pub(crate) listener: TcpListener,
    pub(crate) admin: Option<TcpListener>,
    pub(crate) tls: TlsState,
}

/// A server that runs. Dropping it does not stop it: [`shut_down`](Self::shut_down) does.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    ended: oneshot::Receiver<Result<Ended, ServerError>>,
    shut_down: Arc<AtomicBool>,
    #[cfg(feature = "simulated-randomness")]
    shared: Option<Arc<Shared>>,
}

impl Running {
    pub(crate) fn launch(
        settings: ServerSettings,
        sockets: Sockets,
        prepared: Prepared,
    ) -> Result<Self, ServerError> {
        let local = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_err(|error| ServerError::System(error.to_string()))
        };
        let address = local(&sockets.listener)?;
        let admin = sockets.admin.as_ref().map(local).transpose()?;
        let (tell, ended) = oneshot::channel();
        let (driver, shared, commands, reopened) = match prepared {
            Prepared::Over(end) => {
                let _ = tell.send(Ok(end));
                return Ok(Self {
                    address,
                    admin,
                    ended,
                    shut_down: Arc::default(),
                    #[cfg(feature = "simulated-randomness")]
                    shared: None,
                });
            }
            Prepared::Ready {
                driver,
                shared,
                commands,
                reopened,
            } => (driver, shared, commands, reopened),
        };
        let shut_down = Arc::clone(&driver.shut_down);
        info!(%address, run = shared.facts.name, "serving over mutual TLS 1.3");
        if let (Some(listener), Some(address)) = (sockets.admin, admin) {
            info!("page for the operator: http://{address}/");
            tokio::spawn(admin::serve(listener, Arc::clone(&shared)));
        }
        let (tls, current) = watch::channel(Arc::new(sockets.tls));
        tokio::spawn(listener::reload(settings.tls.clone(), tls));
        let service = Service {
            shared: Arc::clone(&shared),
            commands,
            tls: current.clone(),
            allow: Arc::new(settings.allow),
            uploads: Arc::new(Semaphore::new(settings.limits.uploads)),
        };
        let (accepted, connections) = mpsc::channel(16);
        let accepting = listener::accept(
            sockets.listener,
            current,
            settings.limits,
            Arc::clone(&shared),
            accepted,
        );
        let accepting = tokio::spawn(accepting);
        let service = FederationServer::new(service)
            .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
        let (close, closed) = oneshot::channel::<()>();
        let serving = tokio::spawn(transport::server_builder().serve_with_incoming_shutdown(
            service,
            ReceiverStream::new(connections),
            async {
                // An error means that whoever would close it has gone, which closes it too.
                let _ = closed.await;
            },
        ));
        let stopped = Arc::clone(&shut_down);
        tokio::spawn(async move {
            let result = driven(driver, reopened).await;
            if matches!(result, Ok(DriverEnd::Closed(_))) && !stopped.load(Ordering::Relaxed) {
                tokio::time::sleep(FAREWELL).await;
            }
            accepting.abort();
            let _ = close.send(());
            // A connection that does not end by itself is not waited for any longer.
            let _ = tokio::time::timeout(DRAIN, serving).await;
            let _ = tell.send(result.map(|end| match end {
                DriverEnd::Closed(status) => Ended::Run(status),
                DriverEnd::ShutDown => Ended::ShutDown,
            }));
        });
        Ok(Self {
            address,
            admin,
            ended,
            shut_down,
            #[cfg(feature = "simulated-randomness")]
            shared: Some(shared),
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the operator's page is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// A flag that ends the server in good order once it is set: the open round stays open for the next start.
    pub fn shut_down(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shut_down)
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    ///
    /// Why it could not go on.
    pub async fn ended(self) -> Result<Ended, ServerError> {
        match self.ended.await {
            Ok(result) => result,
            Err(_) => Err(ServerError::System(
                "the server's own tasks have failed".to_owned(),
            )),
        }
    }

    /// What a test may see of the run.
    #[cfg(feature = "simulated-randomness")]
    pub fn probe(&self) -> Option<Probe> {
        self.shared.clone().map(Probe)
    }
}

/// What a test that plays the clock may see of the run.
#[cfg(feature = "simulated-randomness")]
#[derive(Debug, Clone)]
pub struct Probe(Arc<Shared>);

#[cfg(feature = "simulated-randomness")]
impl Probe {
    /// The round that is open.
    pub fn round(&self) -> Option<u64> {
        match &self.0.current().stage {
            crate::view::Stage::Open(open) => Some(open.round.0),
            _ => None,
        }
    }

    /// How many reports the open round still waits for; `None` between rounds.
    pub fn missing(&self) -> Option<usize> {
        match &self.0.current().stage {
            crate::view::Stage::Open(open) => Some(open.n_missing()),
            _ => None,
        }
    }

    /// The step that the open attempt of secure aggregation is at, by name, and its number.
    pub fn attempt(&self) -> Option<(u32, String)> {
        match &self.0.current().stage {
            crate::view::Stage::Open(open) => open
                .attempt
                .as_ref()
                .map(|attempt| (attempt.terms.attempt, format!("{:?}", *attempt.step.borrow()))),
            _ => None,
        }
    }

    /// How many messages the open attempt's step still waits for.
    pub fn missing_in_step(&self) -> Option<usize> {
        match &self.0.current().stage {
            crate::view::Stage::Open(open) => open
                .attempt
                .as_ref()
                .map(|attempt| attempt.n_missing.load(Ordering::Relaxed)),
            _ => None,
        }
    }

    /// Deadline of the open round, or when the next one opens; `None` at the end.
    pub fn wakes_at(&self) -> Option<umbel_protocol::Timestamp> {
        match &self.0.current().stage {
            crate::view::Stage::Open(open) => Some(open.deadline),
            crate::view::Stage::Waiting { until } => Some(*until),
            crate::view::Stage::Over(_) => None,
        }
    }

    /// How many clients have a number.
    pub fn n_clients(&self) -> usize {
        self.0.n_clients()
    }
}

/// Runs the driver on a thread of its own.
async fn driven(driver: Driver, reopened: Option<OpenRound>) -> Result<DriverEnd, ServerError> {
    let (tell, ended) = oneshot::channel();
    let spawned = thread::Builder::new().name("driver".to_owned()).spawn(move || {
        let _ = tell.send(driver.drive(reopened.as_ref()));
    });
    spawned.map_err(|error| ServerError::System(error.to_string()))?;
    let failed = || ServerError::System("the driver's thread has failed; start the server again".to_owned());
    ended.await.map_err(|_| failed())?
}
