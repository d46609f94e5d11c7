//! Our server and a Redis, asked in RESP3 so that types of replies are compared as well.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use crate::support::{Client, Server};

/// A reply in RESP3.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Typed {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(String),
    Nil,
    Array(Vec<Typed>),
    Set(Vec<Typed>),
    Map(Vec<(Typed, Typed)>),
}

impl Typed {
    fn read(input: &mut impl BufRead) -> Typed {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at_checked(1).expect("the server answers");
        let len = || rest.parse::<usize>().unwrap();
        match kind {
            "+" => Typed::Simple(rest.to_owned()),
            "-" => Typed::Error(rest.to_owned()),
            ":" => Typed::Int(rest.parse().unwrap()),
            "_" => Typed::Nil,
            "$" => {
                let mut bytes = vec![0; len() + 2];
                input.read_exact(&mut bytes).unwrap();
                bytes.truncate(len());
                Typed::Bulk(String::from_utf8(bytes).unwrap())
            }
            "*" => Typed::Array((0..len()).map(|_| Typed::read(input)).collect()),
            "~" => Typed::Set((0..len()).map(|_| Typed::read(input)).collect()),
            "%" => Typed::Map((0..len()).map(|_| (Typed::read(input), Typed::read(input))).collect()),
            other => panic!("no test needs a reply of kind {other:?}"),
        }
    }

    /// The text, which it must be.
    pub(crate) fn text(&self) -> &str {
        match self {
            Typed::Simple(text) | Typed::Bulk(text) => text,
            other => panic!("expected text, not {other:?}"),
        }
    }

    /// The elements of an array or a set, which it must be.
    pub(crate) fn items(&self) -> &[Typed] {
        match self {
            Typed::Array(items) | Typed::Set(items) => items,
            other => panic!("expected elements, not {other:?}"),
        }
    }

    /// The value of a name in a map, which it must be.
    pub(crate) fn field(&self, name: &str) -> Option<&Typed> {
        let Typed::Map(pairs) = self else { panic!("expected a map, not {self:?}") };
        pairs.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value)
    }
}

/// A server with a connection in RESP3.
pub(crate) struct Peer {
    connection: BufReader<TcpStream>,
    server: Server,
}

impl Peer {
    fn new(server: Server) -> Peer {
        drop(server.client());
        let connection = BufReader::new(TcpStream::connect(("127.0.0.1", server.port)).unwrap());
        let mut peer = Peer { connection, server };
        peer.ask(&["HELLO", "3"]);
        peer
    }

    pub(crate) fn ask(&mut self, request: &[&str]) -> Typed {
        let mut bytes = Vec::new();
        Client::encode(request, &mut bytes);
        self.connection.get_mut().write_all(&bytes).unwrap();
        Typed::read(&mut self.connection)
    }

    /// Another connection, in RESP2.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.server.port).unwrap()
    }
}

/// Both, without data.
pub(crate) struct Pair {
    pub(crate) ours: Peer,
    pub(crate) theirs: Peer,
    _folder: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn start() -> Pair {
        const OPTIONS: &[&str] = &["--appendonly", "no", "--save", ""];
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("theirs")).unwrap();
        let theirs = Peer::new(Server::spawn_redis(&folder.path().join("theirs"), OPTIONS));
        let ours = Peer::new(Server::spawn(&folder.path().join("ours"), OPTIONS));
        Pair { ours, theirs, _folder: folder }
    }

    /// Names of commands and subcommands that both have, such as `get` and `client|list`.
    pub(crate) fn commands(&mut self) -> Vec<String> {
        let [ours, theirs] = [&mut self.ours, &mut self.theirs].map(|peer| {
            let mut names: Vec<String> =
                peer.ask(&["COMMAND", "LIST"]).items().iter().map(|name| name.text().to_owned()).collect();
            names.sort();
            names
        });
        let common: Vec<String> = ours.into_iter().filter(|it| theirs.binary_search(it).is_ok()).collect();
        assert!(common.len() > 250, "only {} commands are known to both", common.len());
        common
    }
}
