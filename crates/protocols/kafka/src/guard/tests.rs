#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::BytesMut;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;

use super::*;
use crate::versions::{APIS, find};

fn decode_any(api: &Api, version: i16, body: Bytes) -> bool {
    let api = find(api.key).unwrap();
    let h = crate::wire::Header { api, version, correlation: 1, client_id: String::new() };
    macro_rules! decode {
        ($t:ty) => {
            crate::wire::decode::<$t>(&h, body).is_ok()
        };
    }
    match api.name {
        "Produce" => decode!(ProduceRequest),
        "Fetch" => decode!(FetchRequest),
        "ListOffsets" => decode!(ListOffsetsRequest),
        "Metadata" => decode!(MetadataRequest),
        "OffsetCommit" => decode!(OffsetCommitRequest),
        "OffsetFetch" => decode!(OffsetFetchRequest),
        "FindCoordinator" => decode!(FindCoordinatorRequest),
        "JoinGroup" => decode!(JoinGroupRequest),
        "Heartbeat" => decode!(HeartbeatRequest),
        "LeaveGroup" => decode!(LeaveGroupRequest),
        "SyncGroup" => decode!(SyncGroupRequest),
        "DescribeGroups" => decode!(DescribeGroupsRequest),
        "ListGroups" => decode!(ListGroupsRequest),
        "ApiVersions" => decode!(ApiVersionsRequest),
        "CreateTopics" => decode!(CreateTopicsRequest),
        "DeleteTopics" => decode!(DeleteTopicsRequest),
        "InitProducerId" => decode!(InitProducerIdRequest),
        "OffsetForLeaderEpoch" => decode!(OffsetForLeaderEpochRequest),
        "DescribeConfigs" => decode!(DescribeConfigsRequest),
        "AlterConfigs" => decode!(AlterConfigsRequest),
        "CreatePartitions" => decode!(CreatePartitionsRequest),
        "DeleteGroups" => decode!(DeleteGroupsRequest),
        "IncrementalAlterConfigs" => decode!(IncrementalAlterConfigsRequest),
        "DescribeCluster" => decode!(DescribeClusterRequest),
        other => panic!("{other} has no decoder in this test"),
    }
}

/// Writes a body that follows the layout, with the lengths that `next` gives: what a client would send, or nearly.
fn generate(
    layout: &Layout,
    version: i16,
    flexible: bool,
    next: &mut impl FnMut() -> u8,
    depth: usize,
) -> Vec<u8> {
    fn length(out: &mut Vec<u8>, n: usize, flexible: bool, wide: bool) {
        if flexible {
            out.push(u8::try_from(n + 1).unwrap());
        } else if wide {
            out.extend(i32::try_from(n).unwrap().to_be_bytes());
        } else {
            out.extend(i16::try_from(n).unwrap().to_be_bytes());
        }
    }
    fn one(
        out: &mut Vec<u8>,
        kind: &Kind,
        v: i16,
        flexible: bool,
        next: &mut impl FnMut() -> u8,
        depth: usize,
    ) {
        match kind {
            Kind::Fixed(n) => out.extend((0..*n).map(|_| next())),
            Kind::Id => out.extend((0..16).map(|_| next())),
            Kind::Text | Kind::Blob => {
                let n = usize::from(next() % 9);
                length(out, n, flexible, matches!(kind, Kind::Blob));
                out.extend((0..n).map(|_| b'a' + next() % 26));
            }
            Kind::Each(layout) => {
                let n = usize::from(next() % 4);
                length(out, n, flexible, true);
                for _ in 0..n {
                    out.extend(generate(layout, v, flexible, next, depth + 1));
                }
            }
            Kind::List(item) => {
                let n = usize::from(next() % 4);
                length(out, n, flexible, true);
                for _ in 0..n {
                    one(out, item, v, flexible, next, depth + 1);
                }
            }
            Kind::One(layout) => out.extend(generate(layout, v, flexible, next, depth + 1)),
        }
    }
    let mut out = Vec::new();
    for f in layout.fields.iter().filter(|f| (f.since..=f.until).contains(&version)) {
        one(&mut out, &f.kind, version, flexible, next, depth);
    }
    if flexible {
        let known: Vec<&Tag> = layout.tags.iter().filter(|t| version >= t.since && next() < 128).collect();
        let unknown = next() % 3;
        out.push(u8::try_from(known.len()).unwrap() + unknown);
        for t in known {
            let mut value = Vec::new();
            one(&mut value, &t.kind, version, flexible, next, depth);
            out.push(u8::try_from(t.number).unwrap());
            out.push(u8::try_from(value.len()).unwrap());
            out.extend(value);
        }
        for n in 0..unknown {
            let size = next() % 5;
            out.extend([100 + n, size]);
            out.extend((0..size).map(|_| next()));
        }
    }
    out
}

fn body(api: &Api, version: i16, seed: &[u8]) -> Vec<u8> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        seed.get(at % seed.len().max(1))
            .copied()
            .unwrap_or(3)
            .wrapping_add(u8::try_from(at / 251 % 256).unwrap())
    };
    generate(layouts::of(api.key).unwrap(), version, api.is_flexible(version), &mut next, 0)
}

fn every_version() -> impl Iterator<Item = (&'static Api, i16)> {
    APIS.iter().flat_map(|a| (a.served_min..=a.max).map(move |v| (a, v)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bodies_that_follow_the_layout_are_decoded(seed in prop::collection::vec(any::<u8>(), 1..400)) {
        for (api, version) in every_version() {
            let body = Bytes::from(body(api, version, &seed));
            let walked = match version > api.codec_max && api.name != "ListOffsets" {
                true => name_for_id(api, version, &body).map(drop),
                false => check(api, version, &body),
            };
            prop_assert_eq!(walked, Ok(()), "{} {}", api.name, version);
            prop_assert!(decode_any(api, version, body), "{} {}", api.name, version);
        }
    }

    #[test]
    fn mutated_bodies_neither_panic_nor_take_memory(
        seed in prop::collection::vec(any::<u8>(), 1..400),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        keep in any::<prop::sample::Index>(),
    ) {
        for (api, version) in every_version() {
            let mut body = body(api, version, &seed);
            if body.is_empty() { continue }
            for (at, value) in &cuts {
                let at = at.index(body.len());
                body[at] = *value;
            }
            let whole = Bytes::from(body);
            decode_any(api, version, whole.clone());
            decode_any(api, version, whole.slice(..keep.index(whole.len())));
        }
    }

    #[test]
    fn random_bytes_neither_panic_nor_take_memory(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for (api, version) in every_version() {
            decode_any(api, version, Bytes::from(body.clone()));
        }
    }

    #[test]
    fn hostile_counts_anywhere_are_refused(
        seed in prop::collection::vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
        hostile in prop::sample::select(vec![
            vec![0x7f, 0xff, 0xff, 0xff], vec![0xff, 0xff, 0xff, 0xff, 0x0f], vec![0xff, 0xff, 0xff, 0x7f],
            vec![0x00, 0xff, 0xff, 0xff], vec![0xff; 12], vec![0x7f, 0xff],
        ]),
    ) {
        for (api, version) in every_version() {
            let mut body = body(api, version, &seed);
            let at = at.index(body.len() + 1);
            let end = (at + hostile.len()).min(body.len());
            body.splice(at..end, hostile.clone());
            decode_any(api, version, Bytes::from(body));
        }
    }
}

#[test]
fn a_count_of_two_thousand_million_is_refused() {
    let metadata = find(crate::versions::METADATA).unwrap();
    assert!(matches!(check(metadata, 1, &i32::MAX.to_be_bytes()), Err(GuardError::Short { .. })));
    assert!(matches!(check(metadata, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(GuardError::Short { .. })));
    assert!(matches!(check(metadata, 12, &[0xff; 9]), Err(GuardError::Varint { .. })));
    assert!(matches!(check(metadata, 1, &(-7_i32).to_be_bytes()), Err(GuardError::Negative { .. })));
}

#[test]
fn more_items_than_the_limit_are_refused() {
    let groups = find(crate::versions::DESCRIBE_GROUPS).unwrap();
    let count = ITEMS_MAX + 1;
    let mut body = i32::try_from(count).unwrap().to_be_bytes().to_vec();
    body.resize(4 + 2 * count, 0);
    assert_eq!(check(groups, 0, &body), Err(GuardError::TooMany));
}

#[test]
fn a_known_tag_that_lies_about_its_size_is_refused() {
    let fetch = find(crate::versions::FETCH).unwrap();
    let request = FetchRequest::default().with_cluster_id(Some(StrBytes::from_static_str("cluster")));
    let mut body = BytesMut::new();
    request.encode(&mut body, 12).unwrap();
    assert_eq!(check(fetch, 12, &body), Ok(()));
    let at = body.windows(2).rposition(|w| w == [0, 8]).unwrap();
    body[at + 1] = 9;
    body.extend_from_slice(&[0; 4]);
    assert!(matches!(check(fetch, 12, &body), Err(GuardError::WrongSize { .. })));
}

#[test]
fn ids_become_names_for_the_version_before() {
    let api = find(crate::versions::OFFSET_COMMIT).unwrap();
    let id = uuid::Uuid::from_bytes(std::array::from_fn(|i| 0xf0_u8.wrapping_add(u8::try_from(i).unwrap())));
    let mut body = vec![2, b'g', 0, 0, 0, 5, 2, b'm', 0, 2];
    body.extend(id.as_bytes());
    body.extend([2]);
    body.extend(3_i32.to_be_bytes());
    body.extend(77_i64.to_be_bytes());
    body.extend((-1_i32).to_be_bytes());
    body.extend([0, 0, 0, 0]);
    let mut rewritten = name_for_id(api, 10, &Bytes::from(body)).unwrap();
    let request = OffsetCommitRequest::decode(&mut rewritten, 9).unwrap();
    let topic = &request.topics[0];
    assert_eq!(uuid::Uuid::parse_str(&topic.name).unwrap(), id);
    assert_eq!((topic.partitions[0].partition_index, topic.partitions[0].committed_offset), (3, 77));
    assert!(rewritten.is_empty());
}
