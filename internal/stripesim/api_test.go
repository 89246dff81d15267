package stripesim_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/stripesim"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*stripesim.Config){
		"a live key":               func(c *stripesim.Config) { c.SecretKey = "sk_live_x" },
		"a live restricted key":    func(c *stripesim.Config) { c.SecretKey = "rk_live_x" },
		"no key":                   func(c *stripesim.Config) { c.SecretKey = "" },
		"no clock":                 func(c *stripesim.Config) { c.Now = nil },
		"no entropy":               func(c *stripesim.Config) { c.Rand = nil },
		"no logger":                func(c *stripesim.Config) { c.Logger = nil },
		"a webhook without secret": func(c *stripesim.Config) { c.WebhookURL = "http://app.test/hook" },
		"a base that is no URL":    func(c *stripesim.Config) { c.BaseURL = "localhost" },
		"a lookup key twice":       func(c *stripesim.Config) { c.Prices = append(c.Prices, c.Prices[0]) },
		"a price without name":     func(c *stripesim.Config) { c.Prices[0].ProductName = "" },
		"a negative price":         func(c *stripesim.Config) { c.Prices[0].UnitAmount = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(time.Now)
			change(&cfg)
			_, err := stripesim.New(cfg)
			require.Error(t, err)
		})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	live := b.do(t, "GET", "/v1/prices", "", "Authorization", "Bearer sk_live_123")
	require.Equal(t, http.StatusUnauthorized, live.status)
	require.Contains(t, live.error("message"), "refuses live keys")
	for _, header := range []string{"", "Bearer ", "Bearer sk_test_other"} {
		require.Equal(t, http.StatusUnauthorized, b.do(t, "GET", "/v1/prices", "", "Authorization", header).status, header)
	}
	require.Equal(t, http.StatusUnauthorized, b.do(t, "GET", "/v1/nothing", "", "Authorization", "").status, "strangers learn no routes")

	req, err := http.NewRequestWithContext(t.Context(), "GET", b.url+"/v1/prices", nil)
	require.NoError(t, err)
	req.SetBasicAuth(testKey, "")
	resp, err := b.http.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Regexp(t, `^req_[0-9A-Za-z]{14}$`, resp.Header.Get("Request-Id"))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	item, price := sub.Items.Data[0].ID, sub.Items.Data[0].Price.ID
	session := "mode=subscription&success_url=http://a.test/&line_items[0][quantity]=1&line_items[0][price]=" + price
	without := func(form, param string) string {
		v, err := url.ParseQuery(form)
		require.NoError(t, err)
		v.Del(param)
		return v.Encode()
	}
	for _, tt := range []struct {
		name, method, path, form string
		status                   int
		code, param              any
	}{
		{"unknown route", "POST", "/v1/coupons", "", 501, "not_simulated", nil},
		{"a preview is no invoice", "GET", "/v1/invoices/upcoming", "", 501, "not_simulated", nil},
		{"a search is no customer", "GET", "/v1/customers/search", "", 501, "not_simulated", nil},
		{"unknown method", "DELETE", "/v1/products/x", "", 501, "not_simulated", nil},
		{"unknown parameter", "POST", "/v1/customers", "emial=x", 400, "parameter_unknown", "emial"},
		{"unknown query parameter", "GET", "/v1/prices?lookup_key=x", "", 400, "parameter_unknown", "lookup_key"},
		{"unknown nested parameter", "POST", "/v1/checkout/sessions", session + "&line_items[0][prise]=x", 400, "parameter_unknown", "line_items[0][prise]"},
		{"parameter of Stripe's", "POST", "/v1/customers", "address[city]=x", 501, "not_simulated", "address[city]"},
		{"empty parameter", "POST", "/v1/billing_portal/sessions", "customer=", 400, "parameter_invalid_empty", "customer"},
		{"missing parameter", "POST", "/v1/billing_portal/sessions", "", 400, "parameter_missing", "customer"},
		{"missing mode", "POST", "/v1/checkout/sessions", without(session, "mode"), 400, "parameter_missing", "mode"},
		{"missing success_url", "POST", "/v1/checkout/sessions", without(session, "success_url"), 400, "parameter_missing", "success_url"},
		{"missing price", "POST", "/v1/checkout/sessions", without(session, "line_items[0][price]"), 400, "parameter_missing", "line_items[0][price]"},
		{"missing quantity", "POST", "/v1/checkout/sessions", without(session, "line_items[0][quantity]"), 400, "parameter_missing", "line_items[0][quantity]"},
		{"unknown id in path", "GET", "/v1/customers/cus_x", "", 404, "resource_missing", "id"},
		{"unknown subscription", "POST", "/v1/subscriptions/sub_x", "", 404, "resource_missing", "id"},
		{"unknown id in parameter", "POST", "/v1/checkout/sessions", session + "&customer=cus_x", 400, "resource_missing", "customer"},
		{"unknown item", "POST", "/v1/subscriptions/" + sub.ID, "items[0][id]=si_x&items[0][price]=" + price, 400, "resource_missing", "items[0][id]"},
		{"second item", "POST", "/v1/subscriptions/" + sub.ID, "items[0][price]=" + price, 501, "not_simulated", "items[0][id]"},
		{"two items", "POST", "/v1/subscriptions/" + sub.ID, "items[0][id]=" + item + "&items[1][price]=" + price, 501, "not_simulated", "items"},
		{"setup mode", "POST", "/v1/checkout/sessions", strings.Replace(session, "subscription", "setup", 1), 501, "not_simulated", "mode"},
		{"bad URL", "POST", "/v1/checkout/sessions", strings.Replace(session, "http://a.test/", "javascript:x", 1), 400, "url_invalid", "success_url"},
		{"bad boolean", "POST", "/v1/subscriptions/" + sub.ID, "cancel_at_period_end=yes", 400, nil, "cancel_at_period_end"},
		{"bad enumeration", "POST", "/v1/subscriptions/" + sub.ID, "proration_behavior=never", 400, nil, "proration_behavior"},
		{"bad limit", "GET", "/v1/prices?limit=101", "", 400, nil, "limit"},
		{"bad cursor", "GET", "/v1/prices?starting_after=price_x", "", 400, "resource_missing", "starting_after"},
		{"pending update with metadata", "POST", "/v1/subscriptions/" + sub.ID, "payment_behavior=pending_if_incomplete&metadata[a]=b", 400, nil, "payment_behavior"},
		{"flow without subscription", "POST", "/v1/billing_portal/sessions", "customer=" + sub.Customer.ID + "&flow_data[type]=subscription_cancel", 400, "parameter_missing", "flow_data[subscription_cancel][subscription]"},
		{"expansion too deep", "GET", "/v1/subscriptions?expand[]=data.items.data.price.product", "", 400, nil, "expand"},
		{"expansion of nothing", "GET", "/v1/customers/" + sub.Customer.ID + "?expand[]=email.domain", "", 400, nil, "expand"},
		{"long metadata", "POST", "/v1/customers", "metadata[a]=" + strings.Repeat("x", 501), 400, nil, "metadata[a]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := b.do(t, tt.method, tt.path, tt.form)
			require.Equal(t, tt.status, a.status, a.raw)
			require.Equal(t, tt.code, a.error("code"), a.raw)
			require.Equal(t, tt.param, a.error("param"), a.raw)
			require.Equal(t, "invalid_request_error", a.error("type"))
			require.NotEmpty(t, a.error("message"))
			require.NotEmpty(t, a.header.Get("Request-Id"))
		})
	}
}

func TestRefusesOtherVersionsAndBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, http.StatusNotImplemented, b.do(t, "GET", "/v1/prices", "", "Stripe-Version", "2025-03-31.basil").status)
	require.Equal(t, http.StatusNotImplemented, b.do(t, "GET", "/v1/prices", "", "Stripe-Account", "acct_1").status)
	require.Equal(t, http.StatusBadRequest, b.do(t, "POST", "/v1/customers", `{}`, "Content-Type", "application/json").status)
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.do(t, "POST", "/v1/customers", "name=A&email=a@example.com", "Idempotency-Key", "k1")
	require.Equal(t, http.StatusOK, first.status)
	require.Empty(t, first.header.Get("Idempotent-Replayed"))

	again := b.do(t, "POST", "/v1/customers", "email=a@example.com&name=A", "Idempotency-Key", "k1")
	require.Equal(t, first.raw, again.raw)
	require.Equal(t, "true", again.header.Get("Idempotent-Replayed"))
	require.Equal(t, first.header.Get("Request-Id"), again.header.Get("Original-Request"))
	require.Len(t, b.sim.Events(), 1, "one customer was made")

	other := b.do(t, "POST", "/v1/customers", "name=B", "Idempotency-Key", "k1")
	require.Equal(t, http.StatusBadRequest, other.status)
	require.Equal(t, "idempotency_error", other.error("type"))
	elsewhere := b.do(t, "POST", "/v1/checkout/sessions", "name=A&email=a@example.com", "Idempotency-Key", "k1")
	require.Equal(t, "idempotency_error", elsewhere.error("type"))

	b.clock.Set(b.clock.Now().Add(24 * time.Hour))
	late := b.do(t, "POST", "/v1/customers", "name=B", "Idempotency-Key", "k1")
	require.Equal(t, http.StatusOK, late.status, "a key is forgotten after a day")
}

func TestIdempotencyOfErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad := b.do(t, "POST", "/v1/customers", "title=A", "Idempotency-Key", "k1")
	require.Equal(t, http.StatusBadRequest, bad.status)
	fixed := b.do(t, "POST", "/v1/customers", "name=A", "Idempotency-Key", "k1")
	require.Equal(t, http.StatusOK, fixed.status, "a request that was never run does not use up its key")

	b.do(t, "POST", "/v1/customers/cus_x", "name=A", "Idempotency-Key", "k2")
	replay := b.do(t, "POST", "/v1/customers/cus_x", "name=A", "Idempotency-Key", "k2")
	require.Equal(t, http.StatusNotFound, replay.status)
	require.Equal(t, "true", replay.header.Get("Idempotent-Replayed"), "an error that was run is remembered")
}

func TestIdempotencyUnderConcurrency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := make(chan any, 8)
	for range cap(ids) {
		go func() {
			params := &stripe.CustomerParams{Name: stripe.String("A")}
			params.SetIdempotencyKey("same")
			cust, err := b.api.Customers.New(params)
			if err != nil {
				ids <- err
				return
			}
			ids <- cust.ID
		}()
	}
	made := map[any]bool{}
	for range cap(ids) {
		switch got := (<-ids).(type) {
		case error:
			b.refused(t, got, 409, "idempotency_key_in_use")
		default:
			made[got] = true
		}
	}
	require.Len(t, made, 1)
	require.Len(t, b.sim.Events(), 1)
}

func TestMetadataMerges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cust := b.customer(t)
	update := func(form string) any {
		return b.do(t, "POST", "/v1/customers/"+cust.ID, form).body["metadata"]
	}
	require.Equal(t, map[string]any{"account_id": "acct_1", "a": "1"}, update("metadata[a]=1"))
	require.Equal(t, map[string]any{"account_id": "acct_1"}, update("metadata[a]="))
	require.Equal(t, map[string]any{}, update("metadata="))
}

func TestPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var made []string
	for range 5 {
		made = append([]string{b.customer(t).ID}, made...) // newest first
	}
	get := func(query string) (ids []string, more any) {
		a := b.do(t, "GET", "/v1/customers?"+query, "")
		require.Equal(t, http.StatusOK, a.status, a.raw)
		for _, c := range a.body["data"].([]any) {
			ids = append(ids, c.(map[string]any)["id"].(string))
		}
		return ids, a.body["has_more"]
	}
	ids, more := get("limit=2")
	require.Equal(t, made[:2], ids)
	require.Equal(t, true, more)
	ids, more = get("limit=2&starting_after=" + made[1])
	require.Equal(t, made[2:4], ids)
	require.Equal(t, true, more)
	ids, more = get("limit=2&starting_after=" + made[3])
	require.Equal(t, made[4:], ids)
	require.Equal(t, false, more)
	ids, more = get("limit=2&ending_before=" + made[3])
	require.Equal(t, made[1:3], ids)
	require.Equal(t, true, more)
	ids, more = get("ending_before=" + made[0])
	require.Empty(t, ids)
	require.Equal(t, false, more)
}
