// Package dashboard owns the page's live half: one websocket per browser, on which a client subscribes to topics, and the
// terminal of an exec. It keeps no telemetry of its own beyond what its subscribers look at, and it never decides who may see
// what: a Caller does, and the tenant it names is part of every key here.
//
// # Protocol
//
// A client asks in JSON text frames (Request) and is answered in JSON text frames (Reply): hello, ok, err, dropped. Data come as
// binary MessagePack frames. Each belongs to a group: all subscriptions of one tenant, topic, object, filter and resolution
// share it, its numbering and its encoded bytes. A group's first frame for a client is a snapshot, unless the client names the
// last frame it has and the group still keeps all that followed. A client that does not keep up loses the oldest frames; it is
// told how many, and goes on from a new snapshot, so that no frame is ever applied to a state that it does not belong to.
//
// A group's source runs while it has subscribers, and for a few seconds after, so that a reload finds it.
package dashboard
