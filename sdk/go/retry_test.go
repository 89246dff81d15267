package keymeter_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

// Whatever happens on the way, a call has its effect once.
func TestRetriesHaveOneEffect(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{
		"unavailable": unavailable("0"),
		"too many":    answers(429, "text/plain", "slow down"),
		"bad gateway": answers(502, "text/html", "<html>"),
		"garbage":     answers(200, "text/html", "<html>"),
		"reset":       resets,
		"lost":        loses,
		"cut":         cuts,
		"no answer":   hangs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, key := newCustomer(t, keymeter.CreateKeyRequest{})
			h := newHop(t, f, f)
			options := []keymeter.Option{}
			if name == "no answer" {
				options = append(options, keymeter.WithTimeout(200*time.Millisecond), keymeter.WithRetries(20))
			}
			customer := h.client(t, key.Key, options...)
			created, err := customer.CreateKey(t.Context(), keymeter.CreateKeyRequest{})
			ok(t, err)
			tries := h.requests()
			equal(t, true, len(tries) >= 3)
			for _, try := range tries {
				equal(t, tries[0].body, try.body)
				equal(t, tries[0].header.Get("Idempotency-Key"), try.header.Get("Idempotency-Key"))
			}
			keys := collect(t, customer.Keys(t.Context(), keymeter.ListKeysParams{}))
			equal(t, 2, len(keys))
			equal(t, created.ID, keys[0].ID)

			service := h.service(t, options...)
			h.faults = []fault{f, f}
			verdict, err := service.VerifyKey(t.Context(), keymeter.VerifyKeyRequest{
				Key: key.Key, Cost: &keymeter.Cost{Category: keymeter.CategoryRAG, Credits: keymeter.Ptr[int64](3)},
			})
			ok(t, err)
			equal(t, true, verdict.Valid)
			h.faults = []fault{f, f}
			_, err = service.RecordUsage(t.Context(), keymeter.UsageEvent{KeyID: &key.ID, Category: keymeter.CategoryRAG, Credits: keymeter.Ptr[int64](4)})
			ok(t, err)
			credits, requests := used(t, key.Key)
			equal(t, 7, credits)
			equal(t, 2, requests)
		})
	}
}

// A key that rotates itself does not lose its successor with the answer, if it is good for a while longer.
func TestRotationOfItselfWithALostAnswer(t *testing.T) {
	t.Parallel()
	_, key := newCustomer(t, keymeter.CreateKeyRequest{})
	h := newHop(t, loses)
	rotated, err := h.client(t, key.Key).RotateKey(t.Context(), key.ID, keymeter.RotateKeyRequest{OverlapSeconds: keymeter.Ptr[int32](60)})
	ok(t, err)
	_, err = newHop(t).client(t, rotated.Key).GetUsage(t.Context())
	ok(t, err)
}

// Each call has an Idempotency-Key of its own, unless the caller brings one.
func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	h := newHop(t)
	made := 0
	operator := h.operator(t, keymeter.WithIDs(func() string { made++; return fmt.Sprintf("%d.%d", time.Now().UnixNano(), made) }))
	first, err := operator.CreateAccount(t.Context(), keymeter.CreateAccountRequest{Name: "Acme"})
	ok(t, err)
	second, err := operator.CreateAccount(t.Context(), keymeter.CreateAccountRequest{Name: "Acme"})
	ok(t, err)
	equal(t, true, first.ID != second.ID)
	equal(t, 2, made)
	again, err := operator.CreateAccount(t.Context(), keymeter.CreateAccountRequest{Name: "Acme"},
		keymeter.WithIdempotencyKey(h.requests()[0].header.Get("Idempotency-Key")))
	ok(t, err)
	equal(t, first.ID, again.ID)
	equal(t, 2, made)
}

// What can't help, or would do something twice, is not tried again.
func TestNotRetried(t *testing.T) {
	t.Parallel()
	problem := func(status int, code string) fault {
		return answers(status, "application/problem+json", `{"code":"`+code+`"}`, "Retry-After", "1")
	}
	get := func(ctx context.Context, c *keymeter.Client) error { _, err := c.GetUsage(ctx); return err }
	getWithin := func(limit time.Duration) func(context.Context, *keymeter.Client) error {
		return func(ctx context.Context, c *keymeter.Client) error {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return get(ctx, c)
		}
	}
	retryOverage := func(ctx context.Context, c *keymeter.Client) error { return c.RetryOverage(ctx, "ovg_1") }
	for name, test := range map[string]struct {
		fault fault
		call  func(context.Context, *keymeter.Client) error
	}{
		"bad request":         {problem(400, "invalid_request"), get},
		"unauthorized":        {problem(401, "invalid_credential"), get},
		"conflict":            {problem(409, "idempotency_in_progress"), get},
		"proxy's not found":   {answers(404, "text/html", "<html>"), get},
		"redirect":            {answers(307, "text/html", "", "Location", "/elsewhere"), get},
		"billing not there":   {problem(503, "billing_not_configured"), get},
		"POST without a key":  {unavailable("0"), retryOverage},
		"lost without a key":  {loses, retryOverage},
		"longer than we have": {unavailable("29"), getWithin(10 * time.Second)},
		"too long":            {unavailable("31"), get},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHop(t, test.fault)
			begun := time.Now()
			err := test.call(t.Context(), h.operator(t))
			if err == nil || time.Since(begun) > 8*time.Second {
				t.Fatal(err, time.Since(begun))
			}
			equal(t, 1, len(h.requests()))
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	h := newHop(t, resets, resets, resets, resets)
	_, err := h.operator(t, keymeter.WithRetries(2)).GetHealth(t.Context())
	equal(t, true, err != nil)
	equal(t, 3, len(h.requests()))
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	h := newHop(t, unavailable("1"))
	_, err := h.operator(t).GetHealth(t.Context())
	ok(t, err)
	tries := h.requests()
	equal(t, 2, len(tries))
	if pause := tries[1].at.Sub(tries[0].at); pause < time.Second {
		t.Fatalf("the pause was %v", pause)
	}
}

// A context ends a call at once, and the last answer is not forgotten.
func TestContextEndsCalls(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	h := newHop(t, func(h *hop, w http.ResponseWriter, r *http.Request) {
		unavailable("30")(h, w, r)
		time.AfterFunc(100*time.Millisecond, cancel)
	})
	_, err := h.operator(t).GetHealth(ctx)
	equal(t, true, errors.Is(err, context.Canceled))
	equal(t, true, keymeter.IsCode(err, keymeter.ErrorCodeUnavailable))

	h = newHop(t, hangs)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = h.operator(t).GetHealth(ctx)
	equal(t, true, errors.Is(err, context.DeadlineExceeded))
	equal(t, 1, len(h.requests()))
}

func TestErrors(t *testing.T) {
	t.Parallel()
	_, key := newCustomer(t, keymeter.CreateKeyRequest{})
	customer := newHop(t).client(t, key.Key)
	_, err := customer.CreateKey(t.Context(), keymeter.CreateKeyRequest{ExpiresInDays: keymeter.Ptr[int32](999)})
	e := (*keymeter.Error)(nil)
	if !errors.As(fmt.Errorf("wrapped: %w", err), &e) {
		t.Fatal(err)
	}
	equal(t, 400, e.Status)
	equal(t, keymeter.ErrorCodeInvalidRequest, e.Code)
	equal(t, "expiresInDays", e.Errors[0].Field)
	equal(t, true, e.RequestID != "" && e.Detail != "")
	equal(t, true, strings.Contains(err.Error(), "400 invalid_request: ") && strings.Contains(err.Error(), e.RequestID))
	equal(t, true, keymeter.IsCode(customer.RevokeKey(t.Context(), "key_nobody"), keymeter.ErrorCodeKeyNotFound))
	for _, id := range []string{"", ".", ".."} { // ids that were forgotten are not other paths
		equal(t, true, customer.RevokeKey(t.Context(), id) != nil)
	}
	_, err = customer.ListAccounts(t.Context(), keymeter.ListAccountsParams{})
	equal(t, true, keymeter.IsCode(err, keymeter.ErrorCodeWrongCredentialKind))
	equal(t, false, keymeter.IsCode(nil, keymeter.ErrorCodeWrongCredentialKind))

	h := newHop(t, answers(502, "text/html", "<html>", "Retry-After", "7", "X-Request-Id", "proxy-1"))
	_, err = h.client(t, key.Key, keymeter.WithRetries(0)).GetUsage(t.Context())
	equal(t, true, errors.As(err, &e))
	equal(t, 502, e.Status)
	equal(t, "", e.Code)
	equal(t, 7*time.Second, e.RetryAfter)
	equal(t, "proxy-1", e.RequestID)

	for _, body := range []string{"{}", "null", `{"valid":true}`, `{"valid":true,"code":"expired"}`} { // of whatever is not Keymeter
		h = newHop(t, answers(200, "application/json", body))
		_, err = h.service(t).VerifyKey(t.Context(), keymeter.VerifyKeyRequest{Key: key.Key})
		equal(t, true, err != nil)
	}
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	h = newHop(t, unavailable(at))
	_, err = h.client(t, key.Key, keymeter.WithRetries(0)).GetUsage(t.Context())
	equal(t, true, errors.As(err, &e) && e.RetryAfter > 50*time.Minute)
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "localhost:8080", "ftp://a", "https://", "https://a?b", "https://a#b", "%"} {
		if _, err := keymeter.New(base, "token"); err == nil {
			t.Errorf("%q is no base URL", base)
		}
	}
	if _, err := keymeter.New("https://a", ""); err == nil {
		t.Error("an empty credential")
	}
}

// A credential is not shown by whoever prints a client or an error.
func TestCredentialIsNotPrinted(t *testing.T) {
	t.Parallel()
	token := os.Getenv("KEYMETER_OPERATOR_TOKEN")
	h := newHop(t, resets, answers(502, "text/html", token), answers(200, "text/html", token))
	operator := h.operator(t, keymeter.WithRetries(0), keymeter.WithUserAgent("acme/1.2"))
	printed := fmt.Sprintf("%v %+v %#v", operator, operator, *operator)
	for range 3 {
		_, err := operator.GetHealth(t.Context())
		printed += fmt.Sprintf("%v %+v", err, errors.Unwrap(err))
	}
	if strings.Contains(printed, token) {
		t.Fatal(printed)
	}
	equal(t, "acme/1.2 keymeter-go/"+keymeter.Version, h.requests()[0].header.Get("User-Agent"))
}
