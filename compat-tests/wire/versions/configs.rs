//! Cases of the APIs that show and change settings.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    alter_configs_request,
};

use super::Lab;
use crate::asks::{code, text};
use crate::client::Client;

/// Resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Sources of a value.
const DYNAMIC_TOPIC: i8 = 1;
const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT: i8 = 3;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

/// DescribeConfigs 32: values, sources, synonyms; types and documentation from version 3 on.
pub fn describe_configs(lab: &mut Lab, version: i16) {
    let name = lab.name("set");
    lab.client.topic(&name, 1, &[("retention.ms", "60000")]);
    let all = describe(&mut lab.client, version, (TOPIC, &name), None);
    assert_eq!((all.error_code, all.resource_type, all.resource_name.as_str()), (code::NONE, TOPIC, &*name));
    let retention = setting(&all, "retention.ms");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("60000"), DYNAMIC_TOPIC));
    assert_eq!((retention.read_only, retention.is_sensitive), (false, false));
    let kind = retention.config_type;
    assert_eq!(kind, if version >= 3 { 5 } else { 0 }, "LONG");
    assert_eq!(retention.documentation.as_ref().is_some_and(|text| !text.is_empty()), version >= 3);
    let limit = setting(&all, "max.message.bytes");
    assert_eq!((limit.value.as_deref(), limit.config_source), (Some("1048588"), DEFAULT));
    for (shown, expected) in [(retention, ("retention.ms", DYNAMIC_TOPIC)), (limit, ("message.max.bytes", DEFAULT))] {
        let synonyms: Vec<_> = shown.synonyms.iter().map(|one| (one.name.as_str(), one.source)).collect();
        assert_eq!(synonyms.first(), Some(&expected), "{synonyms:?}");
    }
    assert_eq!(setting(&all, "cleanup.policy").value.as_deref(), Some("delete"));

    let some = describe(&mut lab.client, version, (TOPIC, &name), Some(&["retention.ms", "no.such.setting"]));
    assert_eq!(some.configs.len(), 1, "only what was asked for and exists");
    let node = lab.broker.node().to_string();
    let broker = describe(&mut lab.client, version, (BROKER, &node), None);
    let partitions = setting(&broker, "num.partitions");
    assert_eq!((partitions.value.as_deref(), partitions.config_source), (Some("1"), STATIC_BROKER));
    assert!(setting(&broker, "node.id").read_only && !setting(&broker, "log.retention.ms").read_only);
    let password = setting(&broker, "ssl.key.password");
    assert_eq!((password.is_sensitive, password.value.as_ref()), (true, None));
    let cluster = describe(&mut lab.client, version, (BROKER, ""), None);
    assert_eq!((cluster.error_code, cluster.configs.len()), (code::NONE, 1), "only what a new cluster starts with");
    let isr = setting(&cluster, "min.insync.replicas");
    assert_eq!((isr.value.as_deref(), isr.config_source), (Some("1"), DYNAMIC_DEFAULT));
    let refusals = [
        ((TOPIC, "nowhere"), code::UNKNOWN_TOPIC_OR_PARTITION),
        ((TOPIC, "a b"), code::INVALID_TOPIC),
        ((BROKER, "77"), code::INVALID_REQUEST),
        ((BROKER, "x"), code::INVALID_REQUEST),
        ((77, "x"), code::INVALID_REQUEST),
        ((BROKER_LOGGER, ""), code::INVALID_REQUEST),
        ((BROKER_LOGGER, "77"), code::INVALID_REQUEST),
        ((CLIENT_METRICS, ""), code::INVALID_REQUEST),
        ((GROUP, ""), code::INVALID_REQUEST),
    ];
    describe_the_rest(lab, version, &node);
    for (resource, expected) in refusals {
        let refused = describe(&mut lab.client, version, resource, None);
        assert_eq!((refused.error_code, refused.configs.len()), (expected, 0), "{resource:?}");
    }
    check_plain(lab, version, &name);
}

/// Groups and subscriptions, which need not exist, and loggers.
fn describe_the_rest(lab: &mut Lab, version: i16, node: &str) {
    let group = describe(&mut lab.client, version, (GROUP, "nobody"), None);
    let session = setting(&group, "consumer.session.timeout.ms");
    assert_eq!((session.value.as_deref(), session.config_source), (Some("45000"), DEFAULT));
    assert_eq!(session.synonyms[0].name.as_str(), "group.consumer.session.timeout.ms");
    assert_eq!(setting(&group, "share.isolation.level").synonyms[0].name.as_str(), "share.isolation.level");
    let subscription = describe(&mut lab.client, version, (CLIENT_METRICS, "none"), None);
    assert_eq!(subscription.configs.len(), 3);
    let interval = setting(&subscription, "interval.ms");
    assert_eq!(
        (interval.value.as_deref(), interval.config_source, interval.synonyms.len()),
        (Some("300000"), DEFAULT, 0)
    );
    let loggers = describe(&mut lab.client, version, (BROKER_LOGGER, node), Some(&["root", "kafka.server.KafkaApis"]));
    assert_eq!(loggers.configs.len(), 2);
    let root = setting(&loggers, "root");
    assert_eq!((root.config_source, root.read_only, root.is_sensitive, root.config_type), (6, false, false, 0));
}

/// What was not asked for is not told.
fn check_plain(lab: &mut Lab, version: i16, name: &str) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text("retention.ms")]));
    let plain = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = lab.client.call(version, &plain);
    assert_eq!(response.throttle_time_ms, 0);
    let retention = &response.results[0].configs[0];
    assert_eq!(retention.synonyms.len(), 0);
    assert!(version < 3 || retention.documentation.is_none(), "{:?}", retention.documentation);
}

fn describe(
    client: &mut Client,
    version: i16,
    (kind, name): (i8, &str),
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    client.call(version, &request).results[0].clone()
}

fn setting<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    let found = result.configs.iter().find(|config| config.name.as_str() == name);
    found.unwrap_or_else(|| panic!("{name} is not described"))
}

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// IncrementalAlterConfigs 44: the four operations, on topics and on the broker, and what is refused.
pub fn incremental_alter_configs(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1).name;
    let node = lab.broker.node().to_string();
    let value = |client: &mut Client, resource: (i8, &str), name: &'static str| {
        let shown = describe(client, 4, resource, Some(&[name]));
        (setting(&shown, name).value.as_ref().map(|value| value.to_string()), setting(&shown, name).config_source)
    };
    let alter = |client: &mut Client, resource: (i8, &str), changes: &[Change<'_>]| {
        alter(client, version, resource, changes, false)
    };
    let client = &mut lab.client;
    let of_topic = (TOPIC, &*topic);
    let tried = self::alter(client, version, of_topic, &[("retention.ms", SET, Some("5"))], true);
    assert_eq!((tried, value(client, of_topic, "retention.ms").1), (code::NONE, DEFAULT), "only validated");
    assert_eq!(alter(client, of_topic, &[("retention.ms", SET, Some("70000"))]), code::NONE);
    assert_eq!(value(client, of_topic, "retention.ms"), (Some("70000".to_owned()), DYNAMIC_TOPIC));
    assert_eq!(alter(client, of_topic, &[("retention.ms", DELETE, None)]), code::NONE);
    assert_eq!(value(client, of_topic, "retention.ms").1, DEFAULT);
    assert_eq!(alter(client, of_topic, &[("cleanup.policy", APPEND, Some("compact"))]), code::NONE);
    assert_eq!(value(client, of_topic, "cleanup.policy").0.as_deref(), Some("delete,compact"));
    assert_eq!(alter(client, of_topic, &[("cleanup.policy", SUBTRACT, Some("delete"))]), code::NONE);
    assert_eq!(value(client, of_topic, "cleanup.policy").0.as_deref(), Some("compact"));

    let of_broker = (BROKER, &*node);
    assert_eq!(alter(client, of_broker, &[("log.retention.ms", SET, Some("80000"))]), code::NONE);
    assert_eq!(value(client, of_broker, "log.retention.ms"), (Some("80000".to_owned()), DYNAMIC_BROKER));
    assert_eq!(alter(client, of_broker, &[("log.retention.ms", DELETE, None)]), code::NONE);
    assert_eq!(alter(client, (BROKER, ""), &[("log.retention.ms", SET, Some("90000"))]), code::NONE);
    assert_eq!(value(client, of_broker, "log.retention.ms"), (Some("90000".to_owned()), DYNAMIC_DEFAULT));
    assert_eq!(alter(client, (BROKER, ""), &[("log.retention.ms", DELETE, None)]), code::NONE);

    alter_the_rest(client, version, &node);
    let of_loggers = (BROKER_LOGGER, &*node);
    let of_clients = (CLIENT_METRICS, "sub");
    let refusals: [((i8, &str), &[Change<'_>], i16); 21] = [
        (of_topic, &[("no.such.setting", SET, Some("1"))], 40),
        (of_topic, &[("retention.ms", SET, Some("soon"))], 40),
        (of_topic, &[("retention.ms", APPEND, Some("1"))], 40),
        (of_topic, &[("retention.ms", SET, None)], code::INVALID_REQUEST),
        (of_topic, &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)], code::INVALID_REQUEST),
        (of_topic, &[("retention.ms", 9, Some("1"))], code::INVALID_REQUEST),
        ((TOPIC, "nowhere"), &[("retention.ms", SET, Some("1"))], code::UNKNOWN_TOPIC_OR_PARTITION),
        (of_broker, &[("node.id", SET, Some("9"))], code::INVALID_REQUEST),
        ((77, "x"), &[("retention.ms", SET, Some("1"))], code::INVALID_REQUEST),
        (of_broker, &[("num.io.threads", SET, Some("17"))], code::INVALID_REQUEST),
        (of_broker, &[("message.max.bytes", APPEND, Some("1"))], 40),
        ((BROKER, ""), &[("cordoned.log.dirs", SET, Some("/d"))], code::INVALID_REQUEST),
        (of_loggers, &[("no.such.logger", SET, Some("INFO"))], 40),
        (of_loggers, &[("root", SET, Some("LOUD"))], 40),
        (of_loggers, &[("root", DELETE, None)], code::INVALID_REQUEST),
        ((BROKER_LOGGER, "77"), &[("root", SET, Some("INFO"))], code::INVALID_REQUEST),
        (of_clients, &[("interval.ms", SET, Some("1"))], code::INVALID_REQUEST),
        (of_clients, &[("nope", SET, Some("1"))], code::INVALID_REQUEST),
        (of_clients, &[("match", SET, Some("client_id=["))], 40),
        ((GROUP, "g"), &[("consumer.nope", SET, Some("1"))], 40),
        ((GROUP, "g"), &[("consumer.session.timeout.ms", SET, Some("1"))], 40),
    ];
    for (resource, changes, expected) in refusals {
        assert_eq!(alter(client, resource, changes), expected, "{resource:?} {changes:?}");
    }
    assert_eq!(value(client, of_topic, "retention.ms").1, DEFAULT, "what was refused changed nothing");
}

/// Groups, subscriptions and loggers: set, described, and taken back.
fn alter_the_rest(client: &mut Client, version: i16, node: &str) {
    const LOGGER: i8 = 6;
    const SUBSCRIPTION: i8 = 7;
    const OF_GROUP: i8 = 8;
    for (resource, key, value, source, before) in [
        ((GROUP, "g"), "consumer.session.timeout.ms", "46000", OF_GROUP, Some("45000")),
        ((CLIENT_METRICS, "sub"), "match", "client_id=a.*", SUBSCRIPTION, Some("")),
        ((BROKER_LOGGER, node), "kafka.request.logger", "WARN", LOGGER, None),
    ] {
        let first = describe_one(client, resource, key);
        assert!(before.is_none_or(|before| first.0.as_deref() == Some(before)), "{key} is {first:?}");
        assert_eq!(alter(client, version, resource, &[(key, SET, Some(value))], true), code::NONE);
        assert_eq!(describe_one(client, resource, key), first, "{key}: only validated");
        assert_eq!(alter(client, version, resource, &[(key, SET, Some(value))], false), code::NONE);
        assert_eq!(describe_one(client, resource, key), (Some(value.to_owned()), source));
        assert_eq!(alter(client, version, resource, &[(key, DELETE, None)], false), code::NONE);
        assert_eq!(describe_one(client, resource, key), first);
    }
}

fn describe_one(client: &mut Client, resource: (i8, &str), key: &str) -> (Option<String>, i8) {
    let all = describe(client, 4, resource, Some(&[key]));
    let found = setting(&all, key);
    (found.value.as_ref().map(|value| value.to_string()), found.config_source)
}

/// Name, operation and value.
pub type Change<'a> = (&'a str, i8, Option<&'a str>);

/// The error that the changes of one resource are answered with.
pub fn alter(
    client: &mut Client,
    version: i16,
    (kind, name): (i8, &str),
    changes: &[Change<'_>],
    validate_only: bool,
) -> i16 {
    let change = |(name, operation, value): &Change<'_>| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(*operation).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(change).collect());
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
    let response = client.call(version, &request);
    assert_eq!((response.throttle_time_ms, response.responses.len()), (0, 1));
    let answer = &response.responses[0];
    assert_eq!((answer.resource_type, answer.resource_name.as_str()), (kind, name));
    assert_eq!(answer.error_message.is_some(), answer.error_code != code::NONE, "{:?}", answer.error_message);
    answer.error_code
}

/// AlterConfigs 33: these settings and no others.
pub fn alter_configs(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1).name;
    let node = lab.broker.node().to_string();
    let client = &mut lab.client;
    let set = |client: &mut Client, (kind, name): (i8, &str), settings: &[(&str, Option<&str>)], validate: bool| {
        let config = |(name, value): &(&str, Option<&str>)| {
            alter_configs_request::AlterableConfig::default().with_name(text(name)).with_value(value.map(text))
        };
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(settings.iter().map(config).collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate);
        let answer = client.call(version, &request).responses[0].clone();
        assert_eq!((answer.resource_type, answer.resource_name.as_str()), (kind, name));
        assert_eq!(answer.error_message.is_some(), answer.error_code != code::NONE, "{:?}", answer.error_message);
        answer.error_code
    };
    let sources = |client: &mut Client| {
        let shown = describe(client, 4, (TOPIC, &topic), Some(&["retention.ms", "segment.ms"]));
        (setting(&shown, "retention.ms").config_source, setting(&shown, "segment.ms").config_source)
    };
    let of_topic = (TOPIC, &*topic);
    assert_eq!(set(client, of_topic, &[("retention.ms", Some("70000"))], true), code::NONE);
    assert_eq!(sources(client), (DEFAULT, DEFAULT), "only validated");
    assert_eq!(set(client, of_topic, &[("retention.ms", Some("70000"))], false), code::NONE);
    assert_eq!(sources(client), (DYNAMIC_TOPIC, DEFAULT));
    assert_eq!(set(client, of_topic, &[("segment.ms", Some("80000"))], false), code::NONE);
    assert_eq!(sources(client), (DEFAULT, DYNAMIC_TOPIC), "what is not named goes");
    assert_eq!(set(client, (BROKER, &node), &[("log.retention.ms", Some("80000"))], false), code::NONE);
    let shown = describe(client, 4, (BROKER, &node), Some(&["log.retention.ms"]));
    assert_eq!(setting(&shown, "log.retention.ms").config_source, DYNAMIC_BROKER);
    assert_eq!(set(client, (BROKER, &node), &[], false), code::NONE);

    type Refusal<'a> = ((i8, &'a str), &'a [(&'a str, Option<&'a str>)], i16);
    let refusals: [Refusal<'_>; 8] = [
        (of_topic, &[("no.such.setting", Some("1"))], 40),
        (of_topic, &[("retention.ms", Some("soon"))], 40),
        (of_topic, &[("retention.ms", None)], code::INVALID_REQUEST),
        (of_topic, &[("retention.ms", Some("1")), ("retention.ms", Some("2"))], code::INVALID_REQUEST),
        ((TOPIC, "nowhere"), &[("retention.ms", Some("1"))], code::UNKNOWN_TOPIC_OR_PARTITION),
        ((BROKER, "77"), &[], code::INVALID_REQUEST),
        ((8, &node), &[("root", Some("INFO"))], code::INVALID_REQUEST),
        ((77, "x"), &[("retention.ms", Some("1"))], code::INVALID_REQUEST),
    ];
    for (resource, settings, expected) in refusals {
        assert_eq!(set(client, resource, settings, false), expected, "{resource:?} {settings:?}");
    }
    assert_eq!(sources(client), (DEFAULT, DYNAMIC_TOPIC), "what was refused changed nothing");
}

/// ListConfigResources 74: client metrics only, then any kinds.
pub fn list_config_resources(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1).name;
    let node = lab.broker.node().to_string();
    let mut list = |kinds: &[i8]| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        let response = lab.client.call(version, &request);
        assert_eq!(response.throttle_time_ms, 0);
        let resources = response.config_resources.into_iter();
        let names = resources.map(|one| (one.resource_type, one.resource_name.to_string())).collect::<Vec<_>>();
        (response.error_code, names)
    };
    if version == 0 {
        assert_eq!(list(&[]), (code::NONE, vec![]), "nothing was subscribed to");
        return;
    }
    let (error, all) = list(&[]);
    assert_eq!(error, code::NONE);
    for wanted in [(TOPIC, topic), (BROKER, node.clone()), (8, node.clone())] {
        assert!(all.contains(&wanted), "{wanted:?} in {all:?}");
    }
    assert_eq!(list(&[BROKER]), (code::NONE, vec![(BROKER, node)]));
    assert_eq!(list(&[16, 32]), (code::NONE, vec![]));
    assert_eq!(list(&[BROKER, 1]), (35, vec![]));
}
