package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

// Each request is authorized, pinned to the API version that the code was written for, and says nothing of this server.
func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	for _, c := range calls(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, plenty())
			for range 2 { // telemetry is of the request before
				require.NoError(t, c.do(t.Context(), client, "mine"))
			}
			for _, e := range sent.take() {
				require.Equal(t, "2023-10-16", e.header.Get("Stripe-Version"), e)
				require.Equal(t, "Bearer "+secretKey, e.header.Get("Authorization"), e)
				require.Empty(t, e.header.Values("X-Stripe-Client-Telemetry"), e)
				require.Empty(t, e.header.Values("Stripe-Account"), e)
			}
		})
	}
}

// A request that is made again carries the key of the first time, so that it has no second effect; another request
// carries another.
func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	owners := map[string]string{} // of each idempotency key
	for _, c := range calls(t) {
		client, sent := newClient(t, plenty())
		keysOf := func(key string) (keys []string) {
			require.NoError(t, c.do(t.Context(), client, key))
			exchanges := sent.take()
			require.Subset(t, c.sends, patterns(exchanges), c.name)
			for _, e := range exchanges {
				switch pattern(e) {
				case "POST /v1/customers/{id}": // what it sets is the same each time
					continue
				case "POST /v1/checkout/sessions/{id}/expire": // of the session, whoever wants it
					id := strings.Split(e.path, "/")[4]
					require.Equal(t, []string{"keymeter:expire:" + id}, e.header.Values("Idempotency-Key"))
					continue
				}
				if e.method == http.MethodPost {
					require.Len(t, e.header.Values("Idempotency-Key"), 1, "%s of %s", e, c.name)
					keys = append(keys, e.header.Get("Idempotency-Key"))
					require.LessOrEqual(t, len(keys[0]), 255, "what Stripe takes")
				} else {
					require.Empty(t, e.header.Get("Idempotency-Key"), e)
				}
			}
			return keys
		}
		first := keysOf("mine")
		require.Equal(t, first, keysOf("mine"), c.name)
		for i, key := range keysOf("yours") {
			require.NotEqual(t, first[i], key, c.name)
		}
		for _, key := range first {
			owner, _, _ := strings.Cut(c.name, " ") // with and without an option are the same request
			if before, ok := owners[key]; ok {
				require.Equal(t, before, owner, "two operations share the key %s", key)
			}
			owners[key] = owner
		}
	}
	require.Len(t, owners, 4)
}

// The parameters under an idempotency key of the customer are the same whatever its name is now: Stripe refuses a key
// that comes with others.
func TestCreateCustomerIsConstant(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	var forms []url.Values
	for _, contact := range []billing.Contact{
		{AccountID: "acct_1", Name: "Acme", Email: ptr("a@acme.test")}, {AccountID: "acct_1", Name: "Renamed"},
	} {
		id, err := client.CreateCustomer(t.Context(), contact)
		require.NoError(t, err)
		require.Equal(t, "cus_1", id)
		exchanges := sent.take()
		forms = append(forms, exchanges[0].form)
		require.Equal(t, contact.Name, exchanges[1].form.Get("name"))
		require.Equal(t, contact.Email != nil, exchanges[1].form.Has("email"))
	}
	require.Equal(t, url.Values{"metadata[keymeter_account_id]": {"acct_1"}}, forms[0])
	require.Equal(t, forms[0], forms[1])
}

func TestCheckoutParameters(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	session, err := client.CreateCheckout(t.Context(), billing.Checkout{
		AccountID: "acct_1", CustomerID: "cus_1", Plan: catalogue(t).Plan(plans.Pro), Key: "k",
		SuccessURL: "https://app.test/ok?s={CHECKOUT_SESSION_ID}", CancelURL: "https://app.test/no",
	})
	require.NoError(t, err)
	require.Equal(t, billing.Session{ID: "cs_1", URL: "https://checkout.stripe.test"}, session)
	exchanges := sent.take()
	require.Equal(t, url.Values{
		"active": {"true"}, "limit": {"1"}, "lookup_keys[0]": {"keymeter_pro_monthly"},
	}, exchanges[0].form)
	require.Equal(t, url.Values{
		"mode": {"subscription"}, "customer": {"cus_1"}, "client_reference_id": {"acct_1"},
		"line_items[0][price]": {"price_pro"}, "line_items[0][quantity]": {"1"},
		"metadata[keymeter_account_id]": {"acct_1"}, "metadata[keymeter_request]": {"k"},
		"subscription_data[metadata][keymeter_account_id]": {"acct_1"},
		"success_url": {"https://app.test/ok?s={CHECKOUT_SESSION_ID}"}, "cancel_url": {"https://app.test/no"},
	}, exchanges[1].form)
}

func TestExpireCheckouts(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	require.NoError(t, client.ExpireCheckouts(t.Context(), "cus_1", "mine"))
	exchanges := sent.take()
	require.Equal(t, url.Values{"customer": {"cus_1"}, "status": {"open"}, "limit": {"100"}}, exchanges[0].form)
	require.Equal(t, []string{"GET /v1/checkout/sessions", "POST /v1/checkout/sessions/cs_2/expire"},
		[]string{exchanges[0].String(), exchanges[1].String()}, "the request's own session stays open")
	require.Len(t, exchanges, 2)
}

func TestPlanChangeParameters(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	session, err := client.CreatePlanChange(t.Context(), billing.PlanChange{
		CustomerID: "cus_1", Subscription: billing.Subscription{ID: "sub_1", ItemID: "si_1"},
		Plan: catalogue(t).Plan(plans.Pro), Key: "k", SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no",
	})
	require.NoError(t, err)
	require.Equal(t, billing.Session{ID: "bps_1", URL: "https://billing.stripe.test"}, session)
	require.Equal(t, url.Values{
		"customer": {"cus_1"}, "return_url": {"https://app.test/no"}, "flow_data[type]": {"subscription_update_confirm"},
		"flow_data[after_completion][type]":                          {"redirect"},
		"flow_data[after_completion][redirect][return_url]":          {"https://app.test/ok"},
		"flow_data[subscription_update_confirm][subscription]":       {"sub_1"},
		"flow_data[subscription_update_confirm][items][0][id]":       {"si_1"},
		"flow_data[subscription_update_confirm][items][0][price]":    {"price_pro"},
		"flow_data[subscription_update_confirm][items][0][quantity]": {"1"},
	}, sent.take()[1].form)
}

// A plan whose price does not exist at Stripe is the operator's mistake; it is said as such, and nothing is sold.
func TestPriceThatIsMissing(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, answers(http.StatusOK, `{"object":"list","data":[]}`))
	plan := catalogue(t).Plan(plans.Pro)
	_, err := client.CreateCheckout(t.Context(), billing.Checkout{Plan: plan})
	require.ErrorIs(t, err, billing.ErrNotConfigured)
	require.ErrorContains(t, err, "keymeter_pro_monthly")
	_, err = client.CreatePlanChange(t.Context(), billing.PlanChange{Plan: plan})
	require.ErrorIs(t, err, billing.ErrNotConfigured)
	require.Equal(t, []string{"GET /v1/prices", "GET /v1/prices"}, patterns(sent.take()))
}

func TestCustomerAccount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer, want string
		status             int
	}{
		{"ours", `{"id":"cus_1","metadata":{"keymeter_account_id":"acct_1","x":"y"}}`, "acct_1", http.StatusOK},
		{"somebody else's", `{"id":"cus_1","metadata":{}}`, "", http.StatusOK},
		{"deleted", `{"id":"cus_1","deleted":true}`, "", http.StatusOK},
		{"missing", `{"error":{"type":"invalid_request_error","code":"resource_missing"}}`, "", http.StatusNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, answers(c.status, c.answer))
			got, err := client.CustomerAccount(t.Context(), "cus_1")
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// A server that hangs is left at the caller's deadline, whichever call it is.
func TestDeadline(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees that its client has gone once the body is read
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	for _, c := range calls(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := New(Config{SecretKey: secretKey, APIURL: server.URL + "/", Catalogue: catalogue(t), Now: time.Now})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := c.do(ctx, client, "k")
			require.Less(t, time.Since(began), 5*time.Second, "far below the adapter's own timeouts")
			require.ErrorIs(t, err, billing.ErrUnavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// Each request of a call ends with its caller, and has a deadline also where the caller has none.
func TestContextIsPassedOn(t *testing.T) {
	t.Parallel()
	type mark struct{}
	for _, c := range calls(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.Context().Value(mark{}) == nil {
					return answers(http.StatusBadRequest, "a context of its own")(req)
				}
				if _, ok := req.Context().Deadline(); !ok {
					return answers(http.StatusBadRequest, "no deadline")(req)
				}
				return plenty().RoundTrip(req)
			}))
			require.NoError(t, c.do(context.WithValue(context.WithoutCancel(t.Context()), mark{}, true), client, "k"))
			require.NotEmpty(t, sent.take())
		})
	}
}

// What a retry may mend is told from what is our own fault. In neither does the key show, although Stripe quotes it.
func TestFailures(t *testing.T) {
	t.Parallel()
	quoting := `{"error":{"type":"%s","code":"%s","message":"Invalid API Key provided: ` + secretKey + `","param":"` +
		`customer","doc_url":"https://stripe.test/` + secretKey + `"}}`
	body := func(kind, code string) string {
		return strings.Replace(strings.Replace(quoting, "%s", kind, 1), "%s", code, 1)
	}
	for _, f := range []struct {
		name        string
		transport   http.RoundTripper
		unavailable bool
	}{
		{"500", answers(500, body("api_error", "")), true},
		{"502, not JSON", answers(502, "<html>Bad Gateway</html>"), true},
		{"503", answers(503, body("api_error", "")), true},
		{"429", answers(429, body("rate_limit_error", "rate_limit")), true},
		{"409", answers(409, body("idempotency_error", "idempotency_key_in_use")), true},
		{"200, not JSON", answers(200, "<html>"), true},
		{"no answer", roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") }), true},
		{"400", answers(400, body("invalid_request_error", "parameter_unknown")), false},
		{"401", answers(401, body("invalid_request_error", "")), false},
		{"402", answers(402, body("card_error", "card_declined")), false},
		{"403", answers(403, body("invalid_request_error", "")), false},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			all := calls(t)
			errs := make([]error, len(all))
			var wg sync.WaitGroup
			for i, c := range all {
				client, _ := newClient(t, f.transport)
				wg.Go(func() {
					// Where there is no answer that says not to try again, stripe-go waits; see TestRetries for that.
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					errs[i] = c.do(ctx, client, "k")
				})
			}
			wg.Wait()
			for i, err := range errs {
				require.Error(t, err, all[i].name)
				require.Equal(t, f.unavailable, errors.Is(err, billing.ErrUnavailable), "%s: %v", all[i].name, err)
				requireNoKey(t, err)
			}
		})
	}
}

// requireNoKey looks for the secret key in all that may be logged of an error.
func requireNoKey(t *testing.T, err error) {
	t.Helper()
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		require.NotContains(t, cause.Error(), secretKey)
		require.NotContains(t, fmt.Sprintf("%+v %#v", cause, cause), secretKey)
	}
	encoded, encodeErr := json.Marshal(err)
	require.NoError(t, encodeErr)
	require.NotContains(t, string(encoded), secretKey)
	var stripeErr *stripego.Error
	if errors.As(err, &stripeErr) {
		require.Equal(t, "req_from_stripe", stripeErr.RequestID, "what Stripe's support asks for")
	}
}

// A try that failed for a moment is made again, with its idempotency key.
func TestRetries(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		if tries.Add(1) == 1 {
			return nil, errors.New("connection reset")
		}
		return plenty().RoundTrip(req)
	}))
	_, err := client.CreatePortal(t.Context(), "cus_1", "", "k")
	require.NoError(t, err)
	exchanges := sent.take()
	require.Len(t, exchanges, 2)
	require.Equal(t, "keymeter:portal:k", exchanges[0].header.Get("Idempotency-Key"))
	require.Equal(t, exchanges[0].header.Values("Idempotency-Key"), exchanges[1].header.Values("Idempotency-Key"))
	require.Equal(t, exchanges[0].form, exchanges[1].form)
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	list := func(subscriptions string) http.RoundTripper {
		return answers(http.StatusOK, `{"object":"list","data":[`+subscriptions+`]}`)
	}
	t.Run("as they are", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, list(subscriptionJSON))
		got, err := client.Subscriptions(t.Context(), "cus_1")
		require.NoError(t, err)
		require.Equal(t, []billing.Subscription{{
			ID: "sub_1", ItemID: "si_1", Status: billing.Active, Tier: plans.Pro,
			Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Anchor: time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC),
			PeriodStart: time.Date(2026, 1, 1, 0, 0, 2, 0, time.UTC), PeriodEnd: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
			CancelAtPeriodEnd: true,
		}}, got)
		require.Equal(t, url.Values{"customer": {"cus_1"}, "status": {"all"}, "limit": {"100"}}, sent.take()[0].form)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		client, _ := newClient(t, list(""))
		got, err := client.Subscriptions(t.Context(), "cus_1")
		require.NoError(t, err)
		require.Empty(t, got)
	})
	t.Run("of all pages", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Query().Get("starting_after") == "" {
				return answers(http.StatusOK, `{"object":"list","has_more":true,"data":[`+subscriptionJSON+`]}`)(req)
			}
			return list(strings.ReplaceAll(subscriptionJSON, "sub_1", "sub_2")).RoundTrip(req)
		}))
		got, err := client.Subscriptions(t.Context(), "cus_1")
		require.NoError(t, err)
		require.Len(t, got, 2)
		exchanges := sent.take()
		require.Len(t, exchanges, 2)
		require.Equal(t, "sub_1", exchanges[1].form.Get("starting_after"))
	})
	for _, c := range []struct {
		name, price string
		want        plans.Tier
	}{
		{"by lookup key", `"lookup_key":"keymeter_scale_monthly"`, plans.Scale},
		{"by metadata, once the lookup key has moved on", `"lookup_key":null,"metadata":{"keymeter_tier":"starter"}`, plans.Starter},
		{"by lookup key before metadata", `"lookup_key":"keymeter_pro_monthly","metadata":{"keymeter_tier":"scale"}`, plans.Pro},
		{"somebody else's price", `"lookup_key":"other"`, ""},
		{"no such tier", `"metadata":{"keymeter_tier":"platinum"}`, ""},
		{"a tier that is not sold", `"metadata":{"keymeter_tier":"free"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, list(strings.Replace(subscriptionJSON, `"lookup_key": "keymeter_pro_monthly"`, c.price, 1)))
			got, err := client.Subscriptions(t.Context(), "cus_1")
			require.NoError(t, err)
			require.Equal(t, c.want, got[0].Tier)
		})
	}
	// What an answer of another API version would look like is never taken for the year 1970.
	for name, change := range map[string][2]string{
		"no start of the period": {`"current_period_start": 1767225602,`, ""},
		"no end of the period":   {`"current_period_end": 1769904000,`, ""},
		"an end before it":       {`"current_period_end": 1769904000`, `"current_period_end": 1767225602`},
		"no item":                {`[{"id": "si_1", "price": {"id": "price_1", "lookup_key": "keymeter_pro_monthly"}}]`, "[]"},
		"no price":               {`{"id": "price_1", "lookup_key": "keymeter_pro_monthly"}`, "null"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, subscriptionJSON, change[0])
			client, _ := newClient(t, list(strings.Replace(subscriptionJSON, change[0], change[1], 1)))
			_, err := client.Subscriptions(t.Context(), "cus_1")
			require.ErrorContains(t, err, "subscription sub_1")
			require.NotErrorIs(t, err, billing.ErrUnavailable)
		})
	}
}
