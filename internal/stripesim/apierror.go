package stripesim

import "net/http"

// apiError is an answer in Stripe's error shape. Clients tell errors apart by
// kind and code, the message is for people.
type apiError struct {
	status  int
	kind    string
	code    string
	message string
	param   string

	declineCode string
}

func (e *apiError) Error() string { return e.message }

func (e *apiError) render() object {
	inner := object{"type": e.kind, "message": e.message}
	if e.code != "" {
		inner["code"] = e.code
	}
	if e.declineCode != "" {
		inner["decline_code"] = e.declineCode
	}
	if e.param != "" {
		inner["param"] = e.param
	}
	return object{"error": inner}
}

// refusedBeforeExecution says whether Stripe would have turned the request away
// before running it, in which case an idempotency key remembers nothing.
func (e *apiError) refusedBeforeExecution() bool {
	switch e.code {
	case "parameter_unknown", "parameter_missing", "parameter_invalid_empty", "parameter_invalid_integer", "url_invalid", "not_simulated":
		return true
	}
	return e.status == http.StatusUnauthorized || e.kind == "idempotency_error"
}

func invalid(param, message string) *apiError {
	return &apiError{status: http.StatusBadRequest, kind: "invalid_request_error", message: message, param: param}
}

func invalidCode(code, param, message string) *apiError {
	e := invalid(param, message)
	e.code = code
	return e
}

func missingParam(param string) *apiError {
	return invalidCode("parameter_missing", param, "Missing required param: "+param+".")
}

func unknownParam(param string) *apiError {
	return invalidCode("parameter_unknown", param, "Received unknown parameter: "+param)
}

func emptyParam(param string) *apiError {
	return invalidCode("parameter_invalid_empty", param, "You passed an empty string for '"+param+
		"'. We assume empty values are an attempt to unset a parameter; however '"+param+"' cannot be unset.")
}

// noSuch is what Stripe says of an id in a parameter: a bad request.
func noSuch(kind, id, param string) *apiError {
	return invalidCode("resource_missing", param, "No such "+kind+": '"+id+"'")
}

// notFound is what Stripe says of an id in the path.
func notFound(kind, id string) *apiError {
	e := noSuch(kind, id, "id")
	e.status = http.StatusNotFound
	return e
}

// notSimulated is never Stripe's answer: it says the simulator's edge was reached.
func notSimulated(param, what string) *apiError {
	return &apiError{
		status: http.StatusNotImplemented, kind: "invalid_request_error", code: "not_simulated", param: param,
		message: "The Stripe simulator does not know " + what + ". Stripe itself might.",
	}
}

// unsaved is the answer to a change that a crash would undo.
func unsaved() *apiError {
	return &apiError{
		status: http.StatusInternalServerError, kind: "api_error",
		message: "The Stripe simulator cannot save its state. Its log says why.",
	}
}

func unauthorized(message string) *apiError {
	return &apiError{status: http.StatusUnauthorized, kind: "invalid_request_error", message: message}
}
