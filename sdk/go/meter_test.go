package keymeter_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

// answer is what a customer sees.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem struct {
		Type, Title, Detail, Code string
		Status                    int
	}
}

// ask sends a request to a handler behind a server.
func ask(t *testing.T, handler http.Handler, header ...string) answer {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
	ok(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	ok(t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		ok(t, json.Unmarshal(body, &a.problem))
		equal(t, a.status, a.problem.Status)
		equal(t, "urn:keymeter:problem:"+a.problem.Code, a.problem.Type)
		equal(t, true, a.problem.Title != "" && a.problem.Detail != "")
	}
	return a
}

// served tells what its meter found out, and what is left of the customer's headers.
var served = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	v := keymeter.FromContext(r.Context())
	_, _ = fmt.Fprint(w, v.AccountID(), " ", v.KeyID(), r.Header)
})

func credits(n int64) *keymeter.Cost {
	return &keymeter.Cost{Category: keymeter.CategoryTTS, Credits: &n}
}

func TestMeterServes(t *testing.T) {
	t.Parallel()
	account, key := newCustomer(t, keymeter.CreateKeyRequest{})
	meter := &keymeter.Meter{Client: newHop(t).service(t), Scope: keymeter.ScopeTTS, Cost: credits(94)}
	a := ask(t, meter.Wrap(served), "Authorization", "bearer  "+key.Key)
	equal(t, 200, a.status)
	equal(t, true, strings.HasPrefix(a.body, account.ID+" "+key.ID))
	equal(t, false, strings.Contains(a.body, key.Key))
	meter.KeyHeader = "X-API-Key"
	a = ask(t, meter.Wrap(served), "X-Api-Key", key.Key)
	equal(t, 200, a.status)
	equal(t, false, strings.Contains(a.body, key.Key))
	spent, requests := used(t, key.Key)
	equal(t, 2*94, spent)
	equal(t, 2, requests)
}

// What is not served is answered as the table beside the gateway says, and costs nothing.
func TestMeterRefuses(t *testing.T) {
	t.Parallel()
	account, key := newCustomer(t, keymeter.CreateKeyRequest{})
	_, limited := newCustomer(t, keymeter.CreateKeyRequest{
		Scopes: []keymeter.Scope{keymeter.ScopeTTS}, CreditLimit: keymeter.Ptr[int64](10), AllowedIps: []string{"192.0.2.0/24"},
	})
	_, slow := newCustomer(t, keymeter.CreateKeyRequest{RateLimit: &keymeter.RateLimit{Requests: 1, WindowSeconds: 86400}})
	suspended, off := newCustomer(t, keymeter.CreateKeyRequest{})
	_, err := newHop(t).operator(t).SuspendAccount(t.Context(), suspended.ID)
	ok(t, err)
	service := newHop(t).service(t)
	_, err = service.VerifyKey(t.Context(), keymeter.VerifyKeyRequest{Key: slow.Key})
	ok(t, err)
	at := func(ip string) func(*http.Request) string { return func(*http.Request) string { return ip } }
	for name, test := range map[string]struct {
		meter     keymeter.Meter
		key       string
		status    int
		code      string
		challenge string
	}{
		"no key":       {keymeter.Meter{}, "", 401, "missing_credential", "Bearer"},
		"unknown":      {keymeter.Meter{}, "Bearer nonsense", 401, "invalid_credential", `Bearer error="invalid_token"`},
		"too long":     {keymeter.Meter{}, "Bearer " + strings.Repeat("k", 300), 401, "invalid_credential", `Bearer error="invalid_token"`},
		"other scheme": {keymeter.Meter{}, "Basic " + key.Key, 401, "missing_credential", "Bearer"},
		"exhausted":    {keymeter.Meter{Cost: credits(2501)}, "Bearer " + key.Key, 402, "credits_exhausted", ""},
		"hold too big": {keymeter.Meter{Hold: &keymeter.Hold{Category: "llm", Credits: 2501}}, "Bearer " + key.Key, 402, "credits_exhausted", ""},
		"key's limit":  {keymeter.Meter{Cost: credits(11), ClientIP: at("192.0.2.1")}, "Bearer " + limited.Key, 402, "key_limit_exceeded", ""},
		"scope":        {keymeter.Meter{Scope: "llm", ClientIP: at("192.0.2.1")}, "Bearer " + limited.Key, 403, "insufficient_scope", ""},
		"address":      {keymeter.Meter{ClientIP: at("198.51.100.1")}, "Bearer " + limited.Key, 403, "ip_not_allowed", ""},
		"no address":   {keymeter.Meter{ClientIP: at("")}, "Bearer " + limited.Key, 403, "ip_not_allowed", ""},
		"connection's": {keymeter.Meter{}, "Bearer " + limited.Key, 403, "ip_not_allowed", ""},
		"suspended":    {keymeter.Meter{}, "Bearer " + off.Key, 403, "account_suspended", ""},
		"rate":         {keymeter.Meter{}, "Bearer " + slow.Key, 429, "rate_limited", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.meter.Client = service
			test.meter.Report = func(_ context.Context, err error) { t.Error("reported", err) }
			a := ask(t, test.meter.Wrap(served), "Authorization", test.key)
			equal(t, test.status, a.status)
			equal(t, test.code, a.problem.Code)
			equal(t, test.challenge, a.header.Get("WWW-Authenticate"))
			equal(t, test.status == 429, a.header.Get("Retry-After") != "")
		})
	}
	t.Cleanup(func() {
		events, err := service.VerifyKey(context.Background(), keymeter.VerifyKeyRequest{Key: key.Key, Cost: credits(2500)})
		if err != nil || !events.Valid || *events.AccountID != account.ID {
			t.Error("a refusal has spent something", events, err)
		}
	})
}

// Whatever is wrong between the service and Keymeter, it is a 503 and no refusal, is reported, and shows no key.
func TestMeterKnowsNothing(t *testing.T) {
	t.Parallel()
	_, key := newCustomer(t, keymeter.CreateKeyRequest{})
	problem := func(status int, code string) fault {
		return answers(status, "application/problem+json", `{"code":"`+code+`"}`)
	}
	for name, test := range map[string]struct {
		fault      fault
		status     int
		retryAfter string
	}{
		"unavailable":        {unavailable("7"), 503, "7"},
		"proxy is busy":      {answers(429, "text/plain", "", "Retry-After", "3"), 503, "3"},
		"reset":              {resets, 503, "1"},
		"service token":      {problem(401, "invalid_credential"), 503, "1"},
		"customer key":       {problem(403, "wrong_credential_kind"), 503, "1"},
		"proxy forbids":      {answers(403, "text/html", "<html>"), 503, "1"},
		"nothing there":      {answers(404, "text/html", "<html>"), 503, "1"},
		"garbage":            {answers(200, "text/html", "<html>"), 503, "1"},
		"not a verdict":      {answers(200, "application/json", "{}"), 503, "1"},
		"a proxy's 402":      {answers(402, "text/html", "<html>"), 503, "1"},
		"402 for a hold":     {forReservations(answers(402, "text/html", "<html>")), 503, "1"},
		"no hold":            {forReservations(unavailable("2")), 503, "2"},
		"ids are used twice": {problem(409, "event_conflict"), 500, ""},
		"off the contract":   {problem(400, "invalid_request"), 500, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var reported []string
			meter := &keymeter.Meter{
				Client: newHop(t, test.fault, test.fault).service(t, keymeter.WithRetries(0)),
				Hold:   &keymeter.Hold{Category: keymeter.CategoryLLM, Credits: 1},
				Report: func(_ context.Context, err error) {
					mu.Lock()
					defer mu.Unlock()
					reported = append(reported, fmt.Sprintf("%v %+v %#v", err, err, err))
				},
			}
			a := ask(t, meter.Wrap(served), "Authorization", "Bearer "+key.Key)
			equal(t, test.status, a.status)
			equal(t, test.retryAfter, a.header.Get("Retry-After"))
			mu.Lock()
			defer mu.Unlock()
			equal(t, 1, len(reported))
			equal(t, false, strings.Contains(reported[0]+a.body, key.Key))
		})
	}
}

// forReservations is a fault of reservations alone.
func forReservations(f fault) fault {
	return func(h *hop, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/reservations") {
			f(h, w, r)
			return
		}
		h.forward.ServeHTTP(w, r)
	}
}

// A request that is tried again counts once, if its id stays the same.
func TestMeterCountsTriesOnce(t *testing.T) {
	t.Parallel()
	_, key := newCustomer(t, keymeter.CreateKeyRequest{})
	meter := &keymeter.Meter{Client: newHop(t, loses, loses).service(t), Cost: credits(5), EventIDHeader: "X-Request-Id"}
	handler := meter.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := keymeter.FromContext(r.Context())
		if _, err := v.Record(r.Context(), *credits(100)); err != nil {
			v.Refuse(w, r, err)
		}
	}))
	for range 3 {
		equal(t, 200, ask(t, handler, "Authorization", "Bearer "+key.Key, "X-Request-Id", "req-1").status)
	}
	spent, requests := used(t, key.Key)
	equal(t, 105, spent)
	equal(t, 2, requests)
	for _, id := range []string{"", strings.Repeat("x", 101), "with space"} { // which can't be ids
		equal(t, 200, ask(t, handler, "Authorization", "Bearer "+key.Key, "X-Request-Id", id).status)
	}
	spent, _ = used(t, key.Key)
	equal(t, 4*105, spent)
}

// A cost that is known only in the handler is refused like one that is known before.
func TestRecordIsRefused(t *testing.T) {
	t.Parallel()
	_, key := newCustomer(t, keymeter.CreateKeyRequest{})
	meter := &keymeter.Meter{Client: newHop(t).service(t)}
	a := ask(t, meter.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := keymeter.FromContext(r.Context())
		for range 2 {
			if _, err := v.Record(r.Context(), *credits(2000)); err != nil {
				v.Refuse(w, r, err)
				return
			}
		}
	})), "Authorization", "Bearer "+key.Key)
	equal(t, 402, a.status)
	equal(t, "credits_exhausted", a.problem.Code)
	spent, _ := used(t, key.Key)
	equal(t, 2000, spent)
}

// What is held is settled by the handler, also for a customer who hangs up, or is given back.
func TestHold(t *testing.T) {
	t.Parallel()
	_, key := newCustomer(t, keymeter.CreateKeyRequest{})
	h := newHop(t)
	meter := &keymeter.Meter{
		Client: h.service(t), EventIDHeader: "X-Request-Id",
		Hold: &keymeter.Hold{Category: keymeter.CategoryLLM, Credits: 2000, TTL: time.Minute},
	}
	settle := func(cost int64) http.Handler {
		return meter.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, hangUp := context.WithCancel(r.Context())
			hangUp()
			settled, err := keymeter.FromContext(ctx).Settle(ctx, keymeter.SettleRequest{Credits: &cost})
			if err != nil {
				http.Error(w, err.Error(), 500)
				return
			}
			_, _ = fmt.Fprint(w, settled.Credits)
		}))
	}
	fails := meter.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	// A first try fails, a second works, and a third is the second again.
	server := httptest.NewServer(fails)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
	ok(t, err)
	req.Header.Set("Authorization", "Bearer "+key.Key)
	req.Header.Set("X-Request-Id", "call-1")
	if _, err := http.DefaultClient.Do(req); err == nil { //nolint:bodyclose // there is none
		t.Fatal("the handler failed, and was answered")
	}
	server.Close() // once its handler is done
	credits, _ := used(t, key.Key)
	equal(t, 0, credits)
	equal(t, "7", ask(t, settle(7), "Authorization", "Bearer "+key.Key, "X-Request-Id", "call-1").body)
	for range 2 {
		equal(t, "8", ask(t, settle(8), "Authorization", "Bearer "+key.Key, "X-Request-Id", "call-2").body)
	}
	// A cost that can't be is refused, and what was held for it is free again.
	equal(t, 500, ask(t, settle(-1), "Authorization", "Bearer "+key.Key).status)
	credits, requests := used(t, key.Key)
	equal(t, 15, credits)
	equal(t, 2, requests)
	held := 0
	for _, r := range h.requests() {
		if strings.HasSuffix(r.path, "/reservations") {
			held++
		}
	}
	equal(t, 6, held)
	verdict, err := h.service(t).VerifyKey(t.Context(), keymeter.VerifyKeyRequest{
		Key: key.Key, Cost: &keymeter.Cost{Category: keymeter.CategoryLLM, Credits: keymeter.Ptr[int64](2500 - 15)},
	})
	ok(t, err)
	equal(t, keymeter.VerifyCodeValid, verdict.Code)
}

func TestMeterAnswersAsTold(t *testing.T) {
	t.Parallel()
	meter := &keymeter.Meter{
		Client: newHop(t).service(t), KeyHeader: "X-API-Key",
		Answer: func(w http.ResponseWriter, _ *http.Request, f *keymeter.Refusal) { http.Error(w, f.Code, f.Status) },
	}
	a := ask(t, meter.Wrap(served))
	equal(t, 401, a.status)
	equal(t, "missing_credential\n", a.body)
}

func TestOutsideOfAMeter(t *testing.T) {
	t.Parallel()
	v := keymeter.FromContext(t.Context())
	equal(t, "", v.AccountID()+v.KeyID())
	_, err := v.Record(t.Context(), *credits(1))
	equal(t, true, err != nil)
	_, settleErr := v.Settle(t.Context(), keymeter.SettleRequest{})
	equal(t, true, settleErr != nil)
	for _, meter := range []*keymeter.Meter{{}, {Client: newHop(t).service(t), Cost: credits(1), Hold: &keymeter.Hold{}}} {
		func() {
			defer func() { equal(t, true, recover() != nil) }()
			meter.Wrap(served)
		}()
	}
}

// Failures are logged if nobody else is told of them. The customer's key is in no line.
func TestMeterLogs(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	client, err := keymeter.New(os.Getenv("KEYMETER_URL"), "a-wrong-token")
	ok(t, err)
	meter := &keymeter.Meter{Client: client}
	equal(t, 503, ask(t, meter.Wrap(served), "Authorization", "Bearer the-customers-key").status)
	equal(t, true, strings.Contains(log.String(), "invalid_credential"))
	equal(t, false, strings.Contains(log.String(), "the-customers-key"))
}
