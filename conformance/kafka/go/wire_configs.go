package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireConfigChecks are the configuration requests by hand.
func wireConfigChecks() []check {
	return []check{
		wired("wire/describe-configs/every-version", describeConfigsVersions),
		wired("wire/describe-configs/chosen", describeConfigsChosen),
		wired("wire/alter-configs/errors", alterConfigsErrors),
	}
}

func describeConfigs(topic string, names ...string) *kmsg.DescribeConfigsRequest {
	req := kmsg.NewPtrDescribeConfigsRequest()
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName, res.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, names
	req.Resources = []kmsg.DescribeConfigsRequestResource{res}
	return req
}

func describeConfigsVersions(ctx context.Context, e *env, w *wire, topic string) error {
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for version := int16(1); version <= keys[kmsg.DescribeConfigs].MaxVersion; version++ {
		r, err := ask[*kmsg.DescribeConfigsResponse](w, describeConfigs(topic), version)
		if err != nil {
			return err
		}
		res := r.Resources[0]
		have := map[string]string{}
		for _, c := range res.Configs {
			have[c.Name] = deref(c.Value)
		}
		if res.ErrorCode != 0 || res.ResourceName != topic || have["cleanup.policy"] != "delete" || have["retention.ms"] == "" ||
			have["retention.bytes"] == "" || have["max.message.bytes"] == "" || have["message.timestamp.type"] != "CreateTime" {
			return fmt.Errorf("v%d answers error %d, %v", version, res.ErrorCode, have)
		}
		if r, err = ask[*kmsg.DescribeConfigsResponse](w, describeConfigs(unique("unknown")), version); err != nil {
			return err
		}
		if err := wantCode("an unknown topic", r.Resources[0].ErrorCode, kerr.UnknownTopicOrPartition); err != nil {
			return err
		}
	}
	return nil
}

func describeConfigsChosen(_ context.Context, _ *env, w *wire, topic string) error {
	r, err := ask[*kmsg.DescribeConfigsResponse](w, describeConfigs(topic, "retention.ms", "no.such.config"), 4)
	if err != nil {
		return err
	}
	res := r.Resources[0]
	if res.ErrorCode != 0 || len(res.Configs) != 1 || res.Configs[0].Name != "retention.ms" {
		return fmt.Errorf("asked for one that exists and one that does not: error %d, %+v", res.ErrorCode, res.Configs)
	}
	return nil
}

func alterConfigsErrors(_ context.Context, _ *env, w *wire, topic string) error {
	incremental := func(topic string, op kmsg.IncrementalAlterConfigOp, name string, value *string) (int16, error) {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
			ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Op: op, Value: value}},
		}}
		r, err := ask[*kmsg.IncrementalAlterConfigsResponse](w, req, 1)
		if err != nil {
			return 0, err
		}
		return r.Resources[0].ErrorCode, nil
	}
	const set, remove, extend = kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete, kmsg.IncrementalAlterConfigOpAppend
	for _, c := range []struct {
		what, topic string
		op          kmsg.IncrementalAlterConfigOp
		name        string
		value       *string
		want        *kerr.Error
	}{
		{"a number", topic, set, "retention.ms", ptr("1000"), nil},
		{"no number", topic, set, "retention.ms", ptr("never"), kerr.InvalidConfig},
		{"a number too small", topic, set, "max.message.bytes", ptr("-4"), kerr.InvalidConfig},
		{"an unknown name", topic, set, "no.such.config", ptr("1"), kerr.InvalidConfig},
		{"appending to a number", topic, extend, "retention.ms", ptr("1"), kerr.InvalidConfig},
		{"an unknown topic", unique("unknown"), set, "retention.ms", ptr("1"), kerr.UnknownTopicOrPartition},
		{"removing", topic, remove, "retention.ms", nil, nil},
	} {
		code, err := incremental(c.topic, c.op, c.name, c.value)
		if err := errors.Join(err, wantCode(c.what, code, c.want)); err != nil {
			return err
		}
	}
	req := kmsg.NewPtrAlterConfigsRequest()
	req.Resources = []kmsg.AlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic,
		Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: ptr("never")}},
	}}
	r, err := ask[*kmsg.AlterConfigsResponse](w, req, 2)
	if err != nil {
		return err
	}
	return wantCode("AlterConfigs with no number", r.Resources[0].ErrorCode, kerr.InvalidConfig)
}
