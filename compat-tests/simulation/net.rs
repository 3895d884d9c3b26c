//! The broker's network, made of turmoil's sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use ottla::env::{BoxFuture, Duplex, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

/// The network of the simulated host that is running.
pub struct SimulatedNet;

struct SimulatedListener(TcpListener);

impl Net for SimulatedNet {
    fn bind<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            assert!(matches!(host, "" | "0.0.0.0"), "turmoil binds every interface or none, not {host}");
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            Ok(Box::new(SimulatedListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}

impl Listener for SimulatedListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn Duplex>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
