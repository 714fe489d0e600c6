//! Rooms as JSON, for `--api`. Pure: what there is to tell is handed in; reading creates nothing.

use std::fmt::Write as _;

use super::body::Body;
use super::respond::Reply;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// All rooms: `/api/rooms/`.
    Rooms,
    /// One room: `/api/<ROOM>/`.
    Room(String),
    /// How many clients are in it: `/api/<ROOM>/connections`.
    Connections(String),
    /// What its program says of it: `/api/<ROOM>/metadata`.
    Metadata(String),
}

/// What there is to tell of a room. One that is not there has no clients and no metadata.
#[derive(Debug, Clone, Default)]
pub struct RoomFacts {
    /// Its name.
    pub name: String,
    /// How many clients are in it.
    pub connections: usize,
    /// What its program says of it: JSON.
    pub metadata: Option<String>,
}

impl Ask {
    /// What a path behind `/api` asks for; a slash at its end does not matter, and neither does a metric
    /// that nobody knows: that is the whole room.
    pub fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/api/")?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let room = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        match path.split_once('/') {
            None if path == "rooms" => Some(Self::Rooms),
            None => room(path).map(Self::Room),
            Some((_, metric)) if metric.contains('/') => None,
            Some((name, "connections")) => room(name).map(Self::Connections),
            Some((name, "metadata")) => room(name).map(Self::Metadata),
            Some((name, _)) => room(name).map(Self::Room),
        }
    }

    /// The room it is about; `None` is all of them.
    pub fn room(&self) -> Option<&str> {
        match self {
            Self::Rooms => None,
            Self::Room(name) | Self::Connections(name) | Self::Metadata(name) => Some(name),
        }
    }
}

/// The answer. `rooms` are those asked about: all of them, or the one.
pub fn reply(ask: &Ask, rooms: &[RoomFacts]) -> Reply {
    let nobody = RoomFacts { name: ask.room().unwrap_or_default().to_owned(), ..RoomFacts::default() };
    let one = rooms.first().unwrap_or(&nobody);
    let mut body = String::new();
    match ask {
        Ask::Rooms => {
            body.push('[');
            for (index, room) in rooms.iter().enumerate() {
                body.push_str(if index > 0 { "," } else { "" });
                write_room(room, &mut body);
            }
            body.push(']');
        }
        Ask::Room(_) => write_room(one, &mut body),
        Ask::Connections(_) => body = one.connections.to_string(),
        Ask::Metadata(_) => body.push_str(one.metadata.as_deref().unwrap_or("null")),
    }
    Reply::new(200, "application/json", Body::Bytes(body.into_bytes())).with("Cache-Control", "no-store")
}

fn write_room(room: &RoomFacts, out: &mut String) {
    // A string always serialises.
    let name = serde_json::to_string(&room.name).unwrap_or_default();
    let metadata = room.metadata.as_deref().unwrap_or("null");
    let _ = write!(out, "{{\"connections\":{},\"metadata\":{metadata},\"name\":{name}}}", room.connections);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(ask: &Ask, rooms: &[RoomFacts]) -> String {
        let Body::Bytes(bytes) = reply(ask, rooms).body else { panic!("bytes") };
        let text = String::from_utf8(bytes).expect("text");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        text
    }

    #[test]
    fn paths_ask_for_rooms_with_or_without_a_slash_at_the_end() {
        let room = |name: &str| Some(Ask::Room(name.to_owned()));
        let cases = [
            ("/api/rooms", Some(Ask::Rooms)),
            ("/api/rooms/", Some(Ask::Rooms)),
            ("/api/a", room("a")),
            ("/api/a/", room("a")),
            ("/api/a/anything", room("a")),
            ("/api/a/connections", Some(Ask::Connections("a".to_owned()))),
            ("/api/a/connections/", Some(Ask::Connections("a".to_owned()))),
            ("/api/a/metadata", Some(Ask::Metadata("a".to_owned()))),
            ("/api/a/b/c", None),
            ("/api//", None),
            ("/api/", None),
            ("/api", None),
            ("/apis/x", None),
        ];
        for (path, wanted) in cases {
            assert_eq!(Ask::parse(path), wanted, "{path}");
        }
    }

    #[test]
    fn bodies_are_json_and_a_room_that_is_not_there_has_nobody_in_it() {
        let facts = |name: &str, connections, metadata: Option<&str>| RoomFacts {
            name: name.to_owned(),
            connections,
            metadata: metadata.map(str::to_owned),
        };
        let rooms = [facts("a\"b", 2, Some("{\"_meta\":true,\"x\":1}")), facts("b", 0, None)];
        assert_eq!(
            body(&Ask::Rooms, &rooms),
            r#"[{"connections":2,"metadata":{"_meta":true,"x":1},"name":"a\"b"},{"connections":0,"metadata":null,"name":"b"}]"#
        );
        assert_eq!(body(&Ask::Rooms, &[]), "[]");
        assert_eq!(body(&Ask::Room("x".to_owned()), &[]), r#"{"connections":0,"metadata":null,"name":"x"}"#);
        assert_eq!(body(&Ask::Connections("x".to_owned()), &rooms[..1]), "2");
        assert_eq!(body(&Ask::Connections("x".to_owned()), &[]), "0");
        assert_eq!(body(&Ask::Metadata("x".to_owned()), &rooms[..1]), "{\"_meta\":true,\"x\":1}");
        assert_eq!(body(&Ask::Metadata("x".to_owned()), &[]), "null");
    }
}
