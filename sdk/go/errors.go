package keymeter

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is an answer that is not a success. [errors.As] finds it, and [IsCode] asks for its code. A call that got no
// answer has another error.
//
// After a 4xx nothing has changed. After anything else the request may have had its effect.
type Error struct {
	Status     int           // of HTTP; 0 for an event that was refused in a batch
	Code       ErrorCode     // what went wrong; empty if the answer is not Keymeter's, but a proxy's
	Detail     string        // for people to read
	RequestID  string        // quote it when you ask for help
	Errors     []FieldError  // what is wrong with which field
	RetryAfter time.Duration // when to try again; 0 if the answer does not say
}

// Error is a line for logs. It has no credential and nothing of the request in it.
func (e *Error) Error() string {
	var s strings.Builder
	s.WriteString("keymeter:")
	if e.Status != 0 {
		fmt.Fprintf(&s, " %d", e.Status)
	}
	if e.Code != "" {
		s.WriteString(" " + string(e.Code))
	}
	if e.Detail != "" {
		s.WriteString(": " + e.Detail)
	}
	for _, field := range e.Errors {
		fmt.Fprintf(&s, " [%s: %s]", field.Field, field.Message)
	}
	if e.RequestID != "" {
		s.WriteString(" (request " + e.RequestID + ")")
	}
	return s.String()
}

// IsCode is whether err is an [Error] with this code.
func IsCode(err error, code ErrorCode) bool {
	e := (*Error)(nil)
	return errors.As(err, &e) && e.Code == code
}

// Err is an [Error] if the event was refused, and nil if it was recorded.
func (r UsageEventResult) Err() error {
	if r.Status == UsageEventStatusRecorded {
		return nil
	}
	e := &Error{}
	if r.Code != nil {
		e.Code = *r.Code
	}
	if r.Detail != nil {
		e.Detail = *r.Detail
	}
	return e
}

func newError(resp *http.Response, content []byte) *Error {
	var problem struct {
		Code      ErrorCode    `json:"code"`
		Detail    string       `json:"detail"`
		RequestID string       `json:"requestId"`
		Errors    []FieldError `json:"errors"`
	}
	e := notKeymeter(resp)
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/problem+json" || json.Unmarshal(content, &problem) != nil || problem.Code == "" {
		return e
	}
	e.Code, e.Detail, e.Errors = problem.Code, problem.Detail, problem.Errors
	if problem.RequestID != "" {
		e.RequestID = problem.RequestID
	}
	return e
}

// notKeymeter is an answer that the contract does not know. What it says is left out: it may repeat the request.
func notKeymeter(resp *http.Response) *Error {
	return &Error{
		Status:     resp.StatusCode,
		Detail:     "the answer is not Keymeter's, perhaps a proxy's",
		RequestID:  resp.Header.Get("X-Request-Id"),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After")),
	}
}

// retryAfter reads a Retry-After header, which has seconds or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
