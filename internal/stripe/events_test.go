package stripe

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
)

func TestEventTypes(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, len(eventTypes), 20, "what Stripe's list of events takes")
	require.True(t, slices.IsSorted(eventTypes))
	require.Len(t, slices.Compact(slices.Clone(eventTypes)), len(eventTypes))
}

// eventAt returns an event as Stripe lists it.
func eventAt(id string, second int64, kind, object string) string {
	return fmt.Sprintf(`{"id":%q,"object":"event","created":%d,"type":%q,"livemode":false,"data":{"object":%s}}`, id, second, kind, object)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"": `{"object":"list","has_more":true,"data":[` +
			eventAt("evt_5", 105, "customer.deleted", `{"id":"cus_1","object":"customer"}`) + "," +
			eventAt("evt_4", 104, "charge.dispute.created", `{"id":"dp_1","object":"dispute","payment_intent":"pi_1"}`) + `]}`,
		"evt_4": `{"object":"list","has_more":true,"data":[` +
			eventAt("evt_3", 103, "invoice.paid", `{"id":"in_1","object":"invoice"}`) + "," +
			eventAt("evt_2", 102, "invoice.paid", `{"id":"in_1","object":"invoice","customer":{"id":"cus_2"}}`) + `]}`,
		"evt_2": `{"object":"list","has_more":false,"data":[` +
			eventAt("evt_1", 101, "charge.refund.updated", `{"id":"re_1","object":"refund","payment_intent":null,"charge":"ch_1"}`) + "," +
			eventAt("evt_0", 101, "checkout.session.completed", `{"id":"cs_1","object":"checkout.session","customer":"cus_3"}`) + `]}`,
	}
	client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/v1/events" {
			return answers(http.StatusOK, pages[req.URL.Query().Get("starting_after")])(req)
		}
		return plenty().RoundTrip(req)
	}))
	second := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	want := []billing.Event{
		{ID: "evt_0", Type: "checkout.session.completed", CustomerID: "cus_3", Created: second(101)},
		{ID: "evt_1", Type: "charge.refund.updated", CustomerID: "cus_1", Created: second(101)},
		{ID: "evt_2", Type: "invoice.paid", CustomerID: "cus_2", Created: second(102)},
		{ID: "evt_4", Type: "charge.dispute.created", CustomerID: "cus_1", Created: second(104)},
		{ID: "evt_5", Type: "customer.deleted", CustomerID: "cus_1", Created: second(105)},
	}
	var got []billing.Event
	require.NoError(t, client.Events(t.Context(), second(101), func(e billing.Event) error { got = append(got, e); return nil }))
	require.Equal(t, want, got)
	first := sent.take()[0].form
	require.Equal(t, "101", first.Get("created[gte]"))
	require.Equal(t, eventTypes[0], first.Get("types[0]"))

	enough := errors.New("enough")
	got = nil
	require.ErrorIs(t, client.Events(t.Context(), second(101), func(e billing.Event) error { got = append(got, e); return enough }), enough)
	require.Equal(t, want[:1], got)
}

// What is read of an event reads the same in every version that an endpoint may have.
func TestReadEvent_versions(t *testing.T) {
	t.Parallel()
	client, _ := newClient(t, plenty())
	for name, c := range map[string]struct{ kind, version, object string }{
		"invoice, 2023-10-16": {
			"invoice.paid", "2023-10-16",
			`{"id":"in_1","object":"invoice","customer":"cus_1","subscription":"sub_1","paid":true,"charge":"ch_1","payment_intent":"pi_1"}`,
		},
		"invoice, acacia": {
			"invoice.paid", "2024-09-30.acacia",
			`{"id":"in_1","object":"invoice","customer":"cus_1","subscription":"sub_1","paid":true,"charge":"ch_1","issuer":{"type":"self"}}`,
		},
		"invoice, basil": {
			"invoice.paid", "2025-03-31.basil",
			`{"id":"in_1","object":"invoice","customer":"cus_1","parent":{"type":"subscription_details","subscription_details":{"subscription":"sub_1"}}}`,
		},
		"subscription, 2023-10-16": {
			"customer.subscription.updated", "2023-10-16",
			`{"id":"sub_1","object":"subscription","customer":"cus_1","current_period_start":1,"current_period_end":2}`,
		},
		"subscription, basil": {
			"customer.subscription.updated", "2025-03-31.basil",
			`{"id":"sub_1","object":"subscription","customer":"cus_1","items":{"data":[{"current_period_start":1,"current_period_end":2}]}}`,
		},
		"subscription, clover": {
			"customer.subscription.updated", "2025-09-30.clover",
			`{"id":"sub_1","object":"subscription","customer":"cus_1","billing_mode":{"type":"flexible"},"items":{"data":[]}}`,
		},
		"subscription, customer expanded": {
			"customer.subscription.updated", "2023-10-16",
			`{"id":"sub_1","object":"subscription","customer":{"id":"cus_1","object":"customer","deleted":true}}`,
		},
		"session, 2023-10-16": {
			"checkout.session.completed", "2023-10-16",
			`{"id":"cs_1","object":"checkout.session","customer":"cus_1","mode":"payment","payment_intent":"pi_1"}`,
		},
		"session, basil": {
			"checkout.session.completed", "2025-03-31.basil",
			`{"id":"cs_1","object":"checkout.session","customer":"cus_1","mode":"payment","collected_information":null}`,
		},
		"charge": {
			"charge.refunded", "2023-10-16",
			`{"id":"ch_1","object":"charge","customer":"cus_1","payment_intent":"pi_1","refunded":true}`,
		},
		"dispute, 2023-10-16": {
			"charge.dispute.created", "2023-10-16",
			`{"id":"dp_1","object":"dispute","charge":"ch_1","payment_intent":"pi_1"}`,
		},
		"dispute, basil":      {"charge.dispute.closed", "2025-03-31.basil", `{"id":"du_1","object":"dispute","charge":"ch_1","payment_intent":"pi_1"}`},
		"dispute of a charge": {"charge.dispute.closed", "2023-10-16", `{"id":"dp_1","object":"dispute","charge":"ch_1","payment_intent":null}`},
		"dispute, charge expanded": {
			"charge.dispute.closed", "2023-10-16",
			`{"id":"dp_1","object":"dispute","charge":{"id":"ch_1","object":"charge"}}`,
		},
		"refund":           {"charge.refund.updated", "2025-03-31.basil", `{"id":"re_1","object":"refund","charge":"ch_1","payment_intent":"pi_1"}`},
		"deleted customer": {"customer.deleted", "2025-03-31.basil", `{"id":"cus_1","object":"customer","email":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := strings.Replace(event(c.kind, c.object), `"object":"event"`, `"object":"event","created":1774089000,"api_version":"`+c.version+`"`, 1)
			got, ok, err := client.ReadEvent(t.Context(), []byte(body), signed(body, "whsec_1", now))
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, billing.Event{ID: "evt_1", Type: c.kind, CustomerID: "cus_1", Created: now}, got)
		})
	}
}

// A payment that Stripe does not know, or that has no customer, is none of ours. One that can't be asked for is delivered
// again.
func TestReadEvent_paymentOfNobody(t *testing.T) {
	t.Parallel()
	body := event("charge.dispute.created", `{"id":"dp_1","object":"dispute","payment_intent":"pi_1"}`)
	for name, c := range map[string]struct {
		status      int
		answer      string
		unavailable bool
	}{
		"missing":     {404, `{"error":{"type":"invalid_request_error","code":"resource_missing"}}`, false},
		"no customer": {200, `{"id":"pi_1","customer":null}`, false},
		"away":        {503, `{"error":{"type":"api_error"}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, answers(c.status, c.answer))
			_, ok, err := client.ReadEvent(t.Context(), []byte(body), signed(body, "whsec_1", now))
			require.False(t, ok)
			require.Equal(t, c.unavailable, errors.Is(err, billing.ErrUnavailable))
			require.Equal(t, c.unavailable, err != nil)
		})
	}
}
