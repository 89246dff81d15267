package stripe

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/fault"
)

// signed returns the header of an event, signed with the secret at the time.
func signed(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{
		Payload: []byte(body), Secret: secret, Timestamp: at,
	}).Header
}

func event(kind, object string) string {
	return fmt.Sprintf(`{"id":"evt_1","object":"event","type":%q,"livemode":false,"data":{"object":%s}}`, kind, object)
}

func TestReadEvent(t *testing.T) {
	t.Parallel()
	client, _ := newClient(t, answers(500, ""))
	want := func(kind string) billing.Event { return billing.Event{ID: "evt_1", Type: kind, CustomerID: "cus_1"} }
	withVersion := func(version string) string {
		return strings.Replace(event("invoice.paid", `{"customer":"cus_1"}`), `"object":"event"`, `"api_version":`+version, 1)
	}
	cases := map[string]struct {
		body string
		want billing.Event // the zero one is of no interest
	}{
		"a customer as its id":            {event("invoice.paid", `{"customer":"cus_1","id":"in_1"}`), want("invoice.paid")},
		"an expanded customer":            {event("invoice.paid", `{"customer":{"id":"cus_1","object":"customer"}}`), want("invoice.paid")},
		"no customer":                     {event("invoice.paid", `{}`), billing.Event{}},
		"a customer that is null":         {event("invoice.paid", `{"customer":null}`), billing.Event{}},
		"a customer that is empty":        {event("invoice.paid", `{"customer":""}`), billing.Event{}},
		"a customer of another kind":      {event("invoice.paid", `{"customer":7}`), billing.Event{}},
		"an expanded one without id":      {event("invoice.paid", `{"customer":{}}`), billing.Event{}},
		"an expanded one with an odd id":  {event("invoice.paid", `{"customer":{"id":7}}`), billing.Event{}},
		"several":                         {event("invoice.paid", `{"customer":["cus_1"]}`), billing.Event{}},
		"a type of no interest":           {event("payout.paid", `{"customer":"cus_1"}`), billing.Event{}},
		"a type of the future":            {event("customer.subscription.teleported", `{"customer":"cus_1"}`), billing.Event{}},
		"no type":                         {event("", `{"customer":"cus_1"}`), billing.Event{}},
		"no id":                           {strings.Replace(event("invoice.paid", `{"customer":"cus_1"}`), "evt_1", "", 1), billing.Event{}},
		"nothing":                         {`{}`, billing.Event{}},
		"an object that is null":          {event("invoice.paid", `null`), billing.Event{}},
		"a thin event, which has no data": {`{"id":"evt_1","type":"invoice.paid","object":"v2.core.event","related_object":{}}`, billing.Event{}},
		"fields that we do not know":      {event("invoice.paid", `{"customer":"cus_1","parent":{"type":"x"},"lines":{}}`), want("invoice.paid")},
		"an early API version":            {withVersion(`"2011-01-01"`), want("invoice.paid")},
		"our API version":                 {withVersion(`"2023-10-16"`), want("invoice.paid")},
		"a later API version":             {withVersion(`"2025-03-31.basil"`), want("invoice.paid")},
		"the latest API version":          {withVersion(`"2026-08-26.dahlia"`), want("invoice.paid")},
		"an API version that is null":     {withVersion("null"), want("invoice.paid")},
	}
	// Whatever may change a subscription is of interest.
	for _, kind := range eventTypes {
		cases[kind] = struct {
			body string
			want billing.Event
		}{event(kind, `{"customer":"cus_1"}`), want(kind)}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok, err := client.ReadEvent(t.Context(), []byte(c.body), signed(c.body, "whsec_1", now))
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, c.want != billing.Event{}, ok)
		})
	}
}

// A genuine event that can't be one is the sender's fault, and never crashes.
func TestReadEventRefusals(t *testing.T) {
	t.Parallel()
	client, _ := newClient(t, answers(500, ""))
	for name, body := range map[string]string{
		"empty": "", "not JSON": "hello", "cut off": `{"id":"evt_1"`, "a list": "[]", "two": `{}{}`,
		"of a wrong type": `{"id":7}`, "livemode of a wrong type": `{"livemode":"no"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, ok, err := client.ReadEvent(t.Context(), []byte(body), signed(body, "whsec_1", now))
			require.False(t, ok)
			var refusal *fault.Error
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, fault.Invalid, refusal.Kind)
			require.Equal(t, "invalid_request", refusal.Code)
		})
	}
	t.Run("of the other mode", func(t *testing.T) {
		t.Parallel()
		live := New(Config{
			SecretKey: "rk_live_abc", WebhookSecrets: []string{"whsec_1"}, Catalogue: catalogue(t), Now: func() time.Time { return now },
		})
		ofTest := event("invoice.paid", `{"customer":"cus_1"}`)
		ofLive := strings.Replace(ofTest, `"livemode":false`, `"livemode":true`, 1)
		for _, c := range []struct {
			client *Client
			body   string
			ok     bool
		}{{client, ofTest, true}, {client, ofLive, false}, {live, ofLive, true}, {live, ofTest, false}} {
			_, ok, err := c.client.ReadEvent(t.Context(), []byte(c.body), signed(c.body, "whsec_1", now))
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.ok, err == nil)
		}
	})
}

func TestSignature(t *testing.T) {
	t.Parallel()
	rotating := New(Config{
		SecretKey: secretKey, WebhookSecrets: []string{"whsec_new", "whsec_old"}, Catalogue: catalogue(t),
		Now: func() time.Time { return now },
	})
	body := event("invoice.paid", `{"customer":"cus_1"}`)
	good := signed(body, "whsec_new", now)
	_, mac, _ := strings.Cut(good, "v1=")
	for _, c := range []struct {
		name, header string
		ok           bool
	}{
		{"the new secret", good, true},
		{"the old secret", signed(body, "whsec_old", now), true},
		{"another secret", signed(body, "whsec_other", now), false},
		{"no secret", signed(body, "", now), false},
		{"five minutes old", signed(body, "whsec_new", now.Add(-5*time.Minute)), true},
		{"older", signed(body, "whsec_new", now.Add(-5*time.Minute-time.Second)), false},
		{"five minutes ahead", signed(body, "whsec_new", now.Add(5*time.Minute)), true},
		{"further ahead", signed(body, "whsec_new", now.Add(5*time.Minute+time.Second)), false},
		{"of another body", signed(body+" ", "whsec_new", now), false},
		{"several, one right", good + ",v1=00," + "v0=00", true},
		{"several, the right one last", strings.Replace(good, "v1=", "v1="+strings.Repeat("0", 64)+",v1=", 1), true},
		{"of a scheme that is weaker", strings.Replace(good, "v1=", "v0=", 1), false},
		{"another time than was signed", strings.Replace(good, "t=", "t=1", 1), false},
		{"an old signature over a fresh time", fmt.Sprintf("%s,t=%d", signed(body, "whsec_new", now.Add(-time.Hour)), now.Unix()), false},
		{"no time", "v1=" + mac, false},
		{"a time of words", "t=now,v1=" + mac, false},
		{"a time too large", "t=99999999999999999999,v1=" + mac, false},
		{"the end of time", "t=9223372036854775807,v1=" + mac, false},
		{"the beginning of time", "t=-9223372036854775808,v1=" + mac, false},
		{"no signature", fmt.Sprintf("t=%d", now.Unix()), false},
		{"an empty signature", fmt.Sprintf("t=%d,v1=", now.Unix()), false},
		{"nothing", "", false},
		{"noise", ",,=,=t=,v1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, ok, err := rotating.ReadEvent(t.Context(), []byte(body), c.header)
			require.Equal(t, c.ok, ok)
			if c.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, billing.ErrInvalidSignature)
			for cause := err; cause != nil; cause = errors.Unwrap(cause) {
				require.NotContains(t, cause.Error(), "whsec_")
			}
		})
	}
	t.Run("without secrets nothing is genuine", func(t *testing.T) {
		t.Parallel()
		none := New(Config{SecretKey: secretKey, Catalogue: catalogue(t), Now: func() time.Time { return now }})
		_, _, err := none.ReadEvent(t.Context(), []byte(body), signed(body, "", now))
		require.ErrorIs(t, err, billing.ErrInvalidSignature)
	})
}

// The time that is judged is the one that was signed. Otherwise whoever has an old event may send it again: a fresh time
// before the old one is all it takes.
func TestSignature_replayUnderAFreshTime(t *testing.T) {
	t.Parallel()
	client, _ := newClient(t, answers(500, ""))
	body := event("invoice.paid", `{"customer":"cus_1"}`)
	old := signed(body, "whsec_1", now.Add(-time.Hour))
	for _, header := range []string{
		fmt.Sprintf("t=%d,%s", now.Unix(), old), fmt.Sprintf("%s,t=%d", old, now.Unix()),
		fmt.Sprintf("v1=00,t=%d,%s", now.Unix(), old),
	} {
		_, ok, err := client.ReadEvent(t.Context(), []byte(body), header)
		require.False(t, ok, header)
		require.ErrorIs(t, err, billing.ErrInvalidSignature, header)
	}
}
