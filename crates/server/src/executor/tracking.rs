//! Invalidations on their way to the outbox: who is told what clients must forget, and in which form.

use bytes::Bytes;

use super::client::Client;
use super::{Core, Executor};
use crate::command::Session;
use crate::engine::tracking::{ClientId, Invalidation, Stale};
use crate::protocol::{ReplyWriter, RespVersion};

/// Where invalidations are published for clients that speak RESP2. Source: Redis 7.0, `TrackingChannelName`.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Where a connection is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The one that is served.
    Me,
    /// In its slot.
    Slot(usize),
    /// Being served, while somebody who waited is served as well.
    Away,
    /// It has left, or is about to.
    Gone,
}

/// One invalidation, encoded once for each form in which it is sent.
struct Forms<'a> {
    stale: &'a Stale,
    push: Option<Bytes>,
    message: Option<Bytes>,
}

impl<'a> Forms<'a> {
    fn new(stale: &'a Stale) -> Self {
        Self { stale, push: None, message: None }
    }

    /// The bytes for a subscriber that speaks RESP2, or for whoever speaks RESP3.
    fn encoded(&mut self, version: RespVersion) -> &Bytes {
        match version {
            RespVersion::Resp3 => self.push.get_or_insert_with(|| {
                encode(version, |writer| {
                    writer.push(2);
                    writer.bulk(b"invalidate");
                    write_stale(writer, self.stale);
                })
            }),
            RespVersion::Resp2 => self.message.get_or_insert_with(|| {
                encode(version, |writer| {
                    writer.push(3);
                    writer.bulk(b"message");
                    writer.bulk(CHANNEL);
                    write_stale(writer, self.stale);
                })
            }),
        }
    }
}

fn encode(version: RespVersion, write: impl FnOnce(&mut ReplyWriter<'_>)) -> Bytes {
    let mut bytes = Vec::new();
    write(&mut ReplyWriter::new(&mut bytes, version));
    Bytes::from(bytes)
}

fn write_stale(writer: &mut ReplyWriter<'_>, stale: &Stale) {
    match stale {
        Stale::All => writer.null(),
        Stale::Keys(keys) => {
            writer.array(keys.len());
            keys.iter().for_each(|key| writer.bulk(key));
        }
    }
}

/// The session that is served, and what it is sent.
struct Me<'a> {
    session: &'a mut Session,
    own: &'a mut Vec<u8>,
}

impl Core {
    /// A client tracks from now on, or does so no more.
    pub(super) fn count_tracking(&mut self, on: bool) {
        self.trackers = if on { self.trackers + 1 } else { self.trackers.saturating_sub(1) };
        self.revision += 1;
    }

    fn place(&self, id: ClientId, me: Option<ClientId>) -> Place {
        if me == Some(id) {
            return Place::Me;
        }
        let Some(slot) = self.clients.slot_of(id) else { return Place::Gone };
        match self.clients.get(slot) {
            None => Place::Away,
            Some(client) if client.closing => Place::Gone,
            Some(_) => Place::Slot(slot),
        }
    }

    /// Tells clients what has become invalid. What the session that is served must be told waits for
    /// [`Core::tell_own`].
    pub(super) fn tell_others(&mut self, all: Vec<Invalidation>, me: Option<ClientId>) {
        for Invalidation { clients, stale } in all {
            let mut forms = Forms::new(&stale);
            for client in clients {
                if me == Some(client) {
                    self.own_stale.push(stale.clone());
                } else {
                    self.tell(client, &mut forms, None);
                }
            }
        }
    }

    /// Tells the session that is served what waits for it.
    pub(super) fn tell_own(&mut self, session: &mut Session, own: &mut Vec<u8>) {
        let id = session.id();
        for stale in std::mem::take(&mut self.own_stale) {
            self.tell(id, &mut Forms::new(&stale), Some(Me { session: &mut *session, own: &mut *own }));
        }
    }

    /// Tells one client, or the one that is told in its place.
    fn tell(&mut self, client: ClientId, forms: &mut Forms<'_>, mut me: Option<Me<'_>>) {
        let my_id = me.as_ref().map(|me| me.session.id());
        let place = self.place(client, my_id);
        let session = match (place, &mut me) {
            (Place::Me, Some(me)) => &mut *me.session,
            (Place::Slot(slot), _) => match self.clients.get_mut(slot) {
                Some(client) => &mut client.session,
                None => return,
            },
            (Place::Away, _) => return self.late_stale.push((client, forms.stale.clone())),
            (Place::Me | Place::Gone, _) => return,
        };
        let (version, Some(tracked)) = (session.version(), &session.tracked) else { return };
        let redirect = tracked.redirect;
        if redirect == 0 || redirect == client {
            // In RESP2 a client can only be told of itself where it listens.
            if version == RespVersion::Resp3 || (redirect == client && session.is_subscriber()) {
                self.put(place, forms.encoded(version), &mut me);
            }
            return;
        }
        let receiver = match self.place(redirect, my_id) {
            Place::Gone => return self.tell_broken(place, redirect, &mut me),
            Place::Away => return self.late_stale.push((client, forms.stale.clone())),
            receiver => receiver,
        };
        let session = match (receiver, &me) {
            (Place::Slot(slot), _) => self.clients.get(slot).map(|client| &client.session),
            (_, Some(me)) => Some(&*me.session),
            _ => None,
        };
        let Some(session) = session else { return };
        let version = session.version();
        // A message makes sense to subscribers only, in RESP2.
        if version == RespVersion::Resp3 || session.is_subscriber() {
            self.put(receiver, forms.encoded(version), &mut me);
        }
    }

    /// Tells a client that the one is gone that was to be told in its place.
    fn tell_broken(&mut self, place: Place, redirect: ClientId, me: &mut Option<Me<'_>>) {
        let session = match (place, &mut *me) {
            (Place::Slot(slot), _) => self.clients.get_mut(slot).map(|client| &mut client.session),
            (_, Some(me)) => Some(&mut *me.session),
            _ => None,
        };
        let Some(session) = session else { return };
        if let Some(tracked) = &mut session.tracked {
            tracked.broken = true;
        }
        let version = session.version();
        if version == RespVersion::Resp3 {
            let message = encode(version, |writer| {
                writer.push(2);
                writer.bulk(b"tracking-redir-broken");
                writer.integer(i64::try_from(redirect).unwrap_or(i64::MAX));
            });
            self.put(place, &message, me);
        }
    }

    fn put(&mut self, place: Place, message: &Bytes, me: &mut Option<Me<'_>>) {
        match (place, me) {
            (Place::Slot(slot), _) => self.outbox.push(&mut self.clients, slot, message),
            (Place::Me, Some(me)) => me.own.extend_from_slice(message),
            _ => {}
        }
    }
}

impl Executor {
    /// Tells and publishes what could not be while clients were served that had waited, because the one that is served, which
    /// has let them go on, was not in its slot.
    pub(super) fn tell_late(&mut self, client: &mut Client) {
        let core = &mut self.core;
        let mut own = Vec::new();
        for (id, stale) in std::mem::take(&mut core.late_stale) {
            let me = Me { session: &mut client.session, own: &mut own };
            core.tell(id, &mut Forms::new(&stale), Some(me));
        }
        if core.notified() != 0 {
            let events = self.engine.take_key_events();
            core.announce_key_events(&events, Some(&client.session), &mut own);
        }
        let version = client.session.version();
        client.connection.output.writer(version).append(&own);
    }

    /// Tells clients that track what has become invalid otherwise than by a command, and at the end of a turn those who are
    /// told by prefix. Order matters: this is a part of the turn that is committed before it is sent.
    pub(super) fn tell_at_end_of_turn(&mut self) {
        if !self.engine.tracking().is_active() {
            return;
        }
        let stale = self.engine.tracking().take_stale();
        self.core.tell_others(stale, None);
        let broadcasts = self.engine.tracking().take_broadcasts();
        self.core.tell_others(broadcasts, None);
    }
}
