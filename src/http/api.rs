//! Rooms as JSON, for `--api`. Pure. A request creates no room.

use std::iter::once;
use std::sync::Arc;

use super::body::Body;
use super::respond::Reply;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// All rooms: `/api/rooms/`.
    Rooms,
    /// One room: `/api/<ROOM>/`.
    Room(String),
    /// Its number of clients: `/api/<ROOM>/connections`.
    Connections(String),
    /// Its metadata: `/api/<ROOM>/metadata`.
    Metadata(String),
}

/// What is shown of a room. A room that does not exist has no clients and no metadata.
#[derive(Debug, Clone, Default)]
pub struct RoomFacts {
    pub name: Arc<str>,
    pub connections: usize,
    /// Metadata from its program: JSON.
    pub metadata: Option<Arc<[u8]>>,
}

/// What is shown of each room, looked up while it is sent.
pub type Rooms = Box<dyn Iterator<Item = RoomFacts>>;

impl Ask {
    /// What a path asks for. A slash at the end is ignored; an unknown metric means the whole room.
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

    /// The room; `None` for all.
    pub fn room(&self) -> Option<&str> {
        match self {
            Self::Rooms => None,
            Self::Room(name) | Self::Connections(name) | Self::Metadata(name) => Some(name),
        }
    }
}

/// The response for these rooms: all, or at most one. A list is computed while it is sent.
pub fn reply(ask: &Ask, mut rooms: Rooms) -> Reply {
    let mut one = || {
        let empty = || RoomFacts { name: ask.room().unwrap_or_default().into(), ..RoomFacts::default() };
        rooms.next().unwrap_or_else(empty)
    };
    let body = match ask {
        Ask::Rooms => list(rooms),
        Ask::Room(_) => Body::Bytes(object(&one())),
        Ask::Connections(_) => Body::Bytes(one().connections.to_string().into_bytes()),
        Ask::Metadata(_) => Body::Bytes(one().metadata.map_or_else(|| b"null".to_vec(), |json| text(&json))),
    };
    Reply::new(200, "application/json", body).with("Cache-Control", "no-store")
}

fn list(rooms: Rooms) -> Body {
    let mut first = true;
    let rooms = rooms.map(move |room| {
        let mut piece = object(&room);
        if !std::mem::take(&mut first) {
            piece.insert(0, b',');
        }
        piece
    });
    Body::pieces(Box::new(once(b"[".to_vec()).chain(rooms).chain(once(b"]".to_vec()))))
}

fn object(room: &RoomFacts) -> Vec<u8> {
    // It cannot fail for a string.
    let name = serde_json::to_string(&*room.name).unwrap_or_default();
    let mut object = format!("{{\"connections\":{},\"metadata\":", room.connections).into_bytes();
    object.extend_from_slice(&room.metadata.as_deref().map_or_else(|| b"null".to_vec(), text));
    object.extend_from_slice(format!(",\"name\":{name}}}").as_bytes());
    object
}

/// JSON with invalid UTF-8 replaced.
fn text(json: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(json).into_owned().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(ask: &Ask, rooms: &[RoomFacts]) -> String {
        let rooms = rooms.to_vec();
        let Body::Bytes(bytes) = reply(ask, Box::new(rooms.into_iter())).body else { panic!("bytes") };
        let text = String::from_utf8(bytes).expect("text");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        text
    }

    fn facts(name: &str, connections: usize, metadata: Option<&str>) -> RoomFacts {
        let metadata = metadata.map(|json| json.as_bytes().into());
        RoomFacts { name: name.into(), connections, metadata }
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
    fn bodies_are_json_and_a_missing_room_is_empty() {
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
