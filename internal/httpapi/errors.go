package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/postgres"
)

// statuses is the one place where kinds of refusals meet HTTP.
var statuses = map[fault.Kind]int{
	fault.Invalid:         http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Exhausted:       http.StatusPaymentRequired,
	fault.Denied:          http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Conflict:        http.StatusConflict,
	fault.Mismatch:        http.StatusUnprocessableEntity,
	fault.Unavailable:     http.StatusServiceUnavailable,
}

var (
	errInternal = fault.New(0, "internal_error", "Something went wrong on our side. Quote the request id.")
	errNotNow   = fault.New(fault.Unavailable, "unavailable", "The server can't answer right now. Try again.")
)

// httpErrors are the errors that Echo and the generated code answer with, by status.
var httpErrors = map[int]*fault.Error{
	http.StatusBadRequest:            fault.New(fault.Invalid, "invalid_request", "The request is not valid."),
	http.StatusNotFound:              fault.New(0, "not_found", "There is nothing at this path."),
	http.StatusMethodNotAllowed:      fault.New(0, "method_not_allowed", "This path does not take this method."),
	http.StatusRequestEntityTooLarge: fault.New(0, "payload_too_large", "The body is larger than 1 MiB."),
	http.StatusUnsupportedMediaType:  fault.New(0, "unsupported_media_type", "Send the body as application/json."),
}

// classify turns any error into a status and a refusal that is fit to be shown.
func classify(err error) (int, *fault.Error) {
	var refusal *fault.Error
	if errors.As(err, &refusal) {
		if status, ok := statuses[refusal.Kind]; ok {
			return status, refusal
		}
	}
	var wrongType *json.UnmarshalTypeError
	var httpErr *echo.HTTPError
	switch {
	case postgres.Unavailable(err):
		return http.StatusServiceUnavailable, errNotNow
	case errors.As(err, &wrongType):
		return http.StatusBadRequest, fault.InvalidField(wrongType.Field, "is not of the right type")
	case errors.As(err, &httpErr) && httpErrors[httpErr.Code] != nil:
		return httpErr.Code, httpErrors[httpErr.Code]
	}
	return http.StatusInternalServerError, errInternal
}

// writeProblem answers with a problem document. Echo may call it after an answer was begun; it then does nothing.
func writeProblem(err error, c echo.Context) {
	if !c.Response().Committed {
		sendProblem(err, c.Response(), c.Request(), requestIDOf(c))
	}
}

func sendProblem(err error, w http.ResponseWriter, r *http.Request, requestID string) (status int) {
	status, refusal := classify(err)
	header := w.Header()
	switch status {
	case http.StatusUnauthorized:
		header.Set(echo.HeaderWWWAuthenticate, challenge(refusal))
	case http.StatusServiceUnavailable:
		header.Set(echo.HeaderRetryAfter, strconv.FormatInt(seconds(refusal.RetryAfter), 10))
	}
	problem := api.Problem{
		Type: "urn:keymeter:problem:" + refusal.Code, Title: http.StatusText(status), Status: int32(status),
		Detail: refusal.Message, Code: api.ErrorCode(refusal.Code), RequestID: requestID,
	}
	for _, f := range refusal.Fields {
		problem.Errors = append(problem.Errors, api.FieldError{Field: f.Name, Message: f.Message})
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return status
	}
	header.Set(echo.HeaderContentType, "application/problem+json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(problem) // the caller may be gone; there is nobody to tell
	return status
}

// challenge is the WWW-Authenticate header, from RFC 6750 section 3: it names no error if there was no credential.
func challenge(refusal *fault.Error) string {
	if refusal.Code == errNoCredential.Code {
		return `Bearer realm="keymeter"`
	}
	return `Bearer realm="keymeter", error="invalid_token"`
}
