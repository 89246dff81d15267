// Package fault is the vocabulary of refusals that every layer shares: what went wrong, in a kind that an edge can map
// to its own terms, a stable code, and a message that is safe to show to the caller.
package fault

import (
	"errors"
	"time"
)

// Kind is the class of a refusal. The edge maps each to a status of its own.
type Kind int

// The kinds.
const (
	Invalid         Kind = iota + 1 // the input is off contract
	Unauthenticated                 // there is no credential, or it is not valid
	Exhausted                       // credits do not suffice
	Denied                          // the credential does not allow it
	NotFound                        // it does not exist, or not for this caller
	Conflict                        // the state of things does not allow it
	Mismatch                        // a retry that is not the request it claims to repeat
	Unavailable                     // not now; the answer is unknown
)

// Field says what is wrong with one field of the input. Name is as in the contract: "expiresInDays",
// "events[3].quantity".
type Field struct{ Name, Message string }

// Error is a refusal. Code is one of the contract's ErrorCode values; Message is shown to the caller.
type Error struct {
	Kind       Kind
	Code       string
	Message    string
	Fields     []Field
	RetryAfter time.Duration // for Unavailable: how long to wait, 0 for the edge's default
	cause      error
}

// New returns a refusal.
func New(kind Kind, code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message}
}

// InvalidField returns a refusal of one field of the input.
func InvalidField(name, message string) *Error {
	return InvalidFields([]Field{{Name: name, Message: message}})
}

// InvalidFields returns a refusal of the fields, of which there is at least one.
func InvalidFields(fields []Field) *Error {
	message := "The request is not valid: " + fields[0].Name + " " + fields[0].Message + "."
	if len(fields) > 1 {
		message = "The request is not valid. See errors."
	}
	return &Error{Kind: Invalid, Code: "invalid_request", Message: message, Fields: fields}
}

// Because returns a copy of e with the cause, which is logged and never shown.
func (e *Error) Because(cause error) *Error {
	copied := *e
	copied.cause = cause
	return &copied
}

// Error is for logs: it includes the cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Code + ": " + e.Message
	}
	return e.Code + ": " + e.Message + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is a refusal with the same code, so that a copy with a cause still matches.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && other.Code == e.Code
}
