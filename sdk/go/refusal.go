package keymeter

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Refusal is why a request is not served.
type Refusal struct {
	Status     int           // of HTTP
	Code       string        // for programs, such as credits_exhausted
	Detail     string        // for people to read
	Challenge  string        // WWW-Authenticate, of a 401
	RetryAfter time.Duration // when to try again, of a 429 and a 503
}

// ServeHTTP answers with the refusal as a problem document.
func (f *Refusal) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	if f.Challenge != "" {
		h.Set("WWW-Authenticate", f.Challenge)
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(struct { // nobody is left to tell if the customer has gone
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}{"urn:keymeter:problem:" + f.Code, http.StatusText(f.Status), f.Status, f.Detail, f.Code})
}

func (m *Meter) unauthorized(code, detail string) *Refusal {
	challenge := "ApiKey"
	if m.KeyHeader == "" {
		challenge = "Bearer"
		if code != "missing_credential" {
			challenge = `Bearer error="invalid_token"`
		}
	}
	return &Refusal{Status: http.StatusUnauthorized, Code: code, Detail: detail, Challenge: challenge}
}

// refusal is what a verdict means for the customer. Why a key is not valid is not said.
func (m *Meter) refusal(result *VerifyKeyResult) *Refusal {
	code := string(result.Code)
	switch result.Code {
	case VerifyCodeRateLimited:
		wait := time.Second
		if result.RetryAfterSeconds != nil {
			wait = time.Duration(*result.RetryAfterSeconds) * time.Second
		}
		return &Refusal{Status: http.StatusTooManyRequests, Code: code, Detail: "There were too many requests.", RetryAfter: wait}
	case VerifyCodeCreditsExhausted:
		return &Refusal{Status: http.StatusPaymentRequired, Code: code, Detail: "The account has too few credits left."}
	case VerifyCodeKeyLimitExceeded:
		return &Refusal{Status: http.StatusPaymentRequired, Code: code, Detail: "The API key has too few credits left."}
	case VerifyCodeInsufficientScope:
		return &Refusal{Status: http.StatusForbidden, Code: code, Detail: "The API key is not good for this."}
	case VerifyCodeIPNotAllowed:
		return &Refusal{Status: http.StatusForbidden, Code: code, Detail: "The API key may not be used from this address."}
	case VerifyCodeAccountSuspended:
		return &Refusal{Status: http.StatusForbidden, Code: code, Detail: "The account is suspended."}
	default:
		return m.unauthorized("invalid_credential", "The API key is not valid.")
	}
}

// refusalOf is what an error of Record, Settle or a hold means for the customer.
func (m *Meter) refusalOf(ctx context.Context, err error) *Refusal {
	for _, code := range []ErrorCode{ErrorCodeCreditsExhausted, ErrorCodeKeyLimitExceeded} {
		if IsCode(err, code) {
			return m.refusal(&VerifyKeyResult{Code: VerifyCode(code)})
		}
	}
	return m.unknown(ctx, err)
}

// unknown is for failures that say nothing about the customer.
func (m *Meter) unknown(ctx context.Context, err error) *Refusal {
	if !errors.Is(ctx.Err(), context.Canceled) { // or the customer has gone, and nothing failed
		m.report(ctx, err)
	}
	wait := time.Second
	if e := (*Error)(nil); errors.As(err, &e) {
		if e.Status == http.StatusBadRequest || e.Status == http.StatusConflict { // a mistake, which trying again repeats
			return &Refusal{Status: http.StatusInternalServerError, Code: "internal_error", Detail: "The request could not be metered."}
		}
		wait = max(wait, e.RetryAfter)
	}
	return &Refusal{
		Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: wait,
		Detail: "The API key can't be checked right now. Nothing is known about it.",
	}
}
