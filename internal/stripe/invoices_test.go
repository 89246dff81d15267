package stripe

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
)

// instead answers the request with the body, and the others as plenty does.
func instead(request, body string) http.RoundTripper {
	return instead2(request, http.StatusOK, body)
}

func instead2(request string, status int, body string) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if req.Method+" "+req.URL.Path == request {
			return answers(status, body)(req)
		}
		return plenty().RoundTrip(req)
	})
}

func TestUnpaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		invoices string
		want     bool
	}{
		"none":                           {``, false},
		"a renewal":                      {`{"id":"in_1","subscription":"sub_1","billing_reason":"subscription_cycle"}`, true},
		"a change of plan":               {`{"id":"in_1","subscription":"sub_1","billing_reason":"subscription_update"}`, true},
		"one of our own":                 {`{"id":"in_1","subscription":"sub_1","billing_reason":"manual"}`, false},
		"another subscription's":         {`{"id":"in_1","subscription":"sub_2","billing_reason":"subscription_cycle"}`, false},
		"of no subscription":             {`{"id":"in_1","subscription":null,"billing_reason":"manual"}`, false},
		"one of our own and the renewal": {`{"id":"in_2","billing_reason":"manual"},{"id":"in_1","subscription":{"id":"sub_1"},"billing_reason":"subscription_cycle"}`, true},
	} {
		for _, status := range []string{"draft", "open"} {
			t.Run(name+", "+status, func(t *testing.T) {
				t.Parallel()
				client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
					if req.URL.Path == "/v1/invoices" && req.URL.Query().Get("status") == status {
						return answers(http.StatusOK, `{"object":"list","data":[`+c.invoices+`]}`)(req)
					}
					return plenty().RoundTrip(req)
				}))
				got, err := client.Subscriptions(t.Context(), "cus_1")
				require.NoError(t, err)
				require.Equal(t, c.want, got[0].Unpaid)
				require.Equal(t, "cus_1", sent.take()[1].form.Get("customer"))
			})
		}
	}
}

func TestRenewalDraft(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	draft := func(reason string, end time.Time) string {
		return `{"id":"in_1","billing_reason":"` + reason + `","period_end":` + strconv.FormatInt(end.Unix(), 10) + `}`
	}
	for name, c := range map[string]struct {
		drafts string
		want   bool
	}{
		"the renewal":              {draft("subscription_cycle", start), true},
		"that of another period":   {draft("subscription_cycle", start.AddDate(0, 1, 0)), false},
		"a change of plan":         {draft("subscription_update", start), false},
		"an invoice of our own":    {draft("manual", start), false},
		"none":                     {"", false},
		"several, the right one 2": {draft("subscription_update", start) + "," + draft("subscription_cycle", start), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, instead("GET /v1/invoices", `{"object":"list","data":[`+c.drafts+`]}`))
			id, ok, err := client.RenewalDraft(t.Context(), "cus_1", "sub_1", start)
			require.NoError(t, err)
			require.Equal(t, c.want, ok)
			require.Equal(t, c.want, id == "in_1")
			require.Equal(t, url.Values{
				"customer": {"cus_1"}, "subscription": {"sub_1"}, "status": {"draft"}, "limit": {"100"},
			}, sent.take()[0].form)
		})
	}
}

func TestAddOverage(t *testing.T) {
	t.Parallel()
	t.Run("to a draft", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, plenty())
		id, err := client.AddOverage(t.Context(), overage("k", "in_1"))
		require.NoError(t, err)
		require.Equal(t, "ii_1", id)
		require.Equal(t, url.Values{
			"customer": {"cus_1"}, "invoice": {"in_1"}, "currency": {"usd"}, "amount": {"1234"},
			"description": {"15,425 credits at $0.0008"}, "period[start]": {"1771669800"}, "period[end]": {"1774089000"},
			"metadata[keymeter_account_id]": {"acct_1"}, "metadata[keymeter_key]": {"k"},
			"metadata[keymeter_subscription]": {"sub_1"}, "metadata[keymeter_credits]": {"15425"},
			"metadata[keymeter_unit_price]": {"0.0008"},
		}, sent.take()[1].form)
	})
	t.Run("to what comes next", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, plenty())
		_, err := client.AddOverage(t.Context(), overage("k", ""))
		require.NoError(t, err)
		form := sent.take()[1].form
		require.False(t, form.Has("invoice"))
		require.Equal(t, "sub_1", form.Get("subscription"))
	})
	t.Run("once, wherever the first call has put it", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, instead("GET /v1/invoiceitems",
			`{"object":"list","data":[{"id":"ii_7","amount":1234,"invoice":"in_1","metadata":{"keymeter_key":"k"}}]}`))
		id, err := client.AddOverage(t.Context(), overage("k", ""))
		require.NoError(t, err)
		require.Equal(t, "ii_7", id)
		require.Equal(t, []string{"GET /v1/invoiceitems", "GET /v1/invoices/{id}"}, patterns(sent.take()))
	})
	t.Run("with the same amount", func(t *testing.T) {
		t.Parallel()
		client, _ := newClient(t, instead("GET /v1/invoiceitems",
			`{"object":"list","data":[{"id":"ii_7","amount":1233,"metadata":{"keymeter_key":"k"}}]}`))
		_, err := client.AddOverage(t.Context(), overage("k", ""))
		var refused *billing.Refused
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "billed_otherwise", refused.Code)
	})
	t.Run("anew if that invoice was voided", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			body, ok := map[string]string{
				"GET /v1/invoiceitems":  `{"object":"list","data":[{"id":"ii_7","invoice":"in_0","metadata":{"keymeter_key":"k"}}]}`,
				"GET /v1/invoices/in_0": `{"id":"in_0","status":"void"}`,
			}[req.Method+" "+req.URL.Path]
			if !ok {
				return plenty().RoundTrip(req)
			}
			return answers(http.StatusOK, body)(req)
		}))
		id, err := client.AddOverage(t.Context(), overage("k", ""))
		require.NoError(t, err)
		require.Equal(t, "ii_1", id)
		exchanges := sent.take()
		require.Equal(t, []string{"GET /v1/invoiceitems", "GET /v1/invoices/{id}", "POST /v1/invoiceitems"}, patterns(exchanges))
		require.NotEqual(t, "keymeter:item:k:", exchanges[2].header.Get("Idempotency-Key"), "Stripe would answer with the first item")
	})
	for name, c := range map[string]struct {
		invoiceID, answer string
		closed            bool
	}{
		"an invoice that is closed":  {"in_1", `{"error":{"type":"invalid_request_error","code":"invoice_not_editable"}}`, true},
		"an invoice that is deleted": {"in_1", `{"error":{"type":"invalid_request_error","code":"resource_missing","param":"invoice"}}`, true},
		"a customer that is deleted": {"in_1", `{"error":{"type":"invalid_request_error","code":"resource_missing","param":"customer"}}`, false},
		"no invoice":                 {"", `{"error":{"type":"invalid_request_error","code":"invoice_not_editable"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, instead2("POST /v1/invoiceitems", http.StatusBadRequest, c.answer))
			_, err := client.AddOverage(t.Context(), overage("k", c.invoiceID))
			var refused *billing.Refused
			require.NotEqual(t, c.closed, errors.As(err, &refused))
			if c.closed {
				require.ErrorIs(t, err, billing.ErrInvoiceClosed)
			}
		})
	}
}

// Wherever a call stops, the next one ends with the one invoice that has all of its items, and is collected.
func TestBillAlone(t *testing.T) {
	t.Parallel()
	all := []string{
		"GET /v1/invoices", "GET /v1/invoiceitems", "GET /v1/subscriptions/{id}", "POST /v1/invoices",
		"GET /v1/invoiceitems", "POST /v1/invoiceitems", "POST /v1/invoices/{id}/finalize",
	}
	t.Run("from nothing", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, instead("GET /v1/subscriptions/sub_1", `{"id":"sub_1","default_payment_method":"pm_1"}`))
		id, err := client.BillAlone(t.Context(), ownInvoice("k"))
		require.NoError(t, err)
		require.Equal(t, "in_1", id)
		exchanges := sent.take()
		require.Equal(t, all, patterns(exchanges))
		require.Equal(t, url.Values{
			"customer": {"cus_1"}, "currency": {"usd"}, "auto_advance": {"false"}, "description": {"Last period"},
			"pending_invoice_items_behavior": {"exclude"}, "default_payment_method": {"pm_1"},
			"metadata[keymeter_account_id]": {"acct_1"}, "metadata[keymeter_key]": {"k"},
			"metadata[keymeter_subscription]": {"sub_1"},
		}, exchanges[3].form)
		require.Equal(t, "in_1", exchanges[5].form.Get("invoice"))
		require.Equal(t, url.Values{"auto_advance": {"true"}}, exchanges[6].form)
	})
	ours := func(status string) string {
		return `{"object":"list","data":[{"id":"in_1","status":"` + status + `","subtotal":1234,"metadata":{"keymeter_key":"k"}}]}`
	}
	item := func(invoice string) string {
		return `{"object":"list","data":[{"id":"ii_1","amount":1234,"invoice":` + invoice + `,"metadata":{"keymeter_key":"k:1"}}]}`
	}
	for name, c := range map[string][2]string{
		"an invoice of another amount":          {strings.Replace(ours("paid"), "1234", "1", 1), item(`"in_1"`)},
		"another's invoice with another amount": {`{"object":"list","data":[]}`, strings.Replace(item(`"in_1"`), "1234", "1", 1)},
	} {
		t.Run("not over "+name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				body, ok := map[string]string{"GET /v1/invoices": c[0], "GET /v1/invoiceitems": c[1]}[req.Method+" "+req.URL.Path]
				if !ok {
					return plenty().RoundTrip(req)
				}
				return answers(http.StatusOK, body)(req)
			}))
			_, err := client.BillAlone(t.Context(), ownInvoice("k"))
			var refused *billing.Refused
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "billed_otherwise", refused.Code)
			for _, e := range sent.take() {
				require.Equal(t, http.MethodGet, e.method)
			}
		})
	}
	for name, c := range map[string]struct {
		invoices, items string
		sends           []string
	}{
		"from another's invoice": {`{"object":"list","data":[]}`, item(`"in_1"`), append(slices.Clone(all[:2]), "GET /v1/invoices/{id}")},
		"from the empty draft":   {ours("draft"), `{"object":"list","data":[]}`, append([]string{all[0]}, all[4:]...)},
		"from the filled draft":  {ours("draft"), item(`"in_1"`), []string{all[0], all[4], "GET /v1/invoices/{id}", all[6]}},
		"from the open invoice":  {ours("open"), item(`"in_1"`), all[:1]},
		"from the paid invoice":  {ours("paid"), item(`"in_1"`), all[:1]},
		"with an item that hung": {ours("draft"), item("null"), []string{all[0], all[4], "DELETE /v1/invoiceitems/{id}", all[5], all[6]}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				body, ok := map[string]string{
					"GET /v1/invoices": c.invoices, "GET /v1/invoiceitems": c.items, "DELETE /v1/invoiceitems/ii_1": `{"id":"ii_1"}`,
				}[req.Method+" "+req.URL.Path]
				if !ok {
					return plenty().RoundTrip(req)
				}
				return answers(http.StatusOK, body)(req)
			}))
			id, err := client.BillAlone(t.Context(), ownInvoice("k"))
			require.NoError(t, err)
			require.Equal(t, "in_1", id)
			require.Equal(t, c.sends, patterns(sent.take()))
		})
	}
}

// Two servers may cancel the same subscription at once. The later of them finds none, and that is as well.
func TestCancelSubscriptionThatIsBeingCancelled(t *testing.T) {
	t.Parallel()
	status := "active"
	client, _ := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path != "/v1/subscriptions/sub_1" {
			return plenty().RoundTrip(req)
		}
		if req.Method == http.MethodDelete {
			status = "canceled"
			return answers(http.StatusNotFound, `{"error":{"type":"invalid_request_error","code":"resource_missing"}}`)(req)
		}
		return answers(http.StatusOK, `{"id":"sub_1","status":"`+status+`"}`)(req)
	}))
	require.NoError(t, client.CancelSubscription(t.Context(), billing.Cancellation{SubscriptionID: "sub_1", Refund: true, Key: "k"}))
}

func TestCancelSubscription(t *testing.T) {
	t.Parallel()
	// Of a period of 100 s that costs $99.00, 25 s are used.
	subscription := func(status, charge string) string {
		return `{"id":"sub_1","status":"` + status + `","ended_at":1000025,
			"items":{"data":[{"id":"si_1","current_period_start":1000000,"current_period_end":1000100}]},
			"latest_invoice":{"id":"in_1","status":"paid","amount_paid":9900,"charge":` + charge + `}}`
	}
	for name, c := range map[string]struct {
		status, charge, refunds string
		refund                  bool
		amount                  string // "" is none
		cancels                 bool
	}{
		"with a refund":           {"active", `{"id":"ch_1","amount":9900,"amount_refunded":0}`, ``, true, "7425", true},
		"without":                 {"active", `{"id":"ch_1","amount":9900,"amount_refunded":0}`, ``, false, "", true},
		"that is over":            {"canceled", `{"id":"ch_1","amount":9900,"amount_refunded":0}`, ``, true, "7425", false},
		"refunded in part before": {"active", `{"id":"ch_1","amount":9900,"amount_refunded":9000}`, ``, true, "900", true},
		"refunded whole before":   {"active", `{"id":"ch_1","amount":9900,"amount_refunded":9900}`, ``, true, "", true},
		"refunded by us":          {"canceled", `{"id":"ch_1","amount":9900,"amount_refunded":7425}`, `{"id":"re_1","metadata":{"keymeter_key":"k"}}`, true, "", false},
		"never charged":           {"active", `null`, ``, true, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				body := map[string]string{
					"GET /v1/subscriptions/sub_1":    subscription(c.status, c.charge),
					"DELETE /v1/subscriptions/sub_1": subscription("canceled", c.charge),
					"GET /v1/refunds":                `{"object":"list","data":[` + c.refunds + `]}`,
					"POST /v1/refunds":               `{"id":"re_1"}`,
				}[req.Method+" "+req.URL.Path]
				return answers(http.StatusOK, body)(req)
			}))
			require.NoError(t, client.CancelSubscription(t.Context(), billing.Cancellation{SubscriptionID: "sub_1", Refund: c.refund, Key: "k"}))
			amount, cancels := "", false
			for _, e := range sent.take() {
				switch e.String() {
				case "POST /v1/refunds":
					amount = e.form.Get("amount")
					require.Equal(t, "ch_1", e.form.Get("charge"))
				case "DELETE /v1/subscriptions/sub_1":
					cancels = true
				}
			}
			require.Equal(t, c.amount, amount)
			require.Equal(t, c.cancels, cancels)
		})
	}
}

func TestRest(t *testing.T) {
	t.Parallel()
	p := period{Start: 1000, End: 1003}
	for _, c := range []struct{ amount, ended, want int64 }{
		{100, 1000, 100}, {100, 1001, 67}, {100, 1002, 33}, {100, 1003, 0}, {100, 1004, 0}, {100, 900, 100}, {0, 1001, 0}, {1, 1001, 1},
	} {
		require.Equal(t, c.want, rest(c.amount, p, c.ended), c)
	}
	require.Zero(t, rest(100, period{}, 0))
}
