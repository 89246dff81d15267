package stripe

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

// failed turns an error of stripe-go into one of the domain: what a retry may mend is ErrUnavailable, what Stripe refuses
// for good a *Refused. Neither quotes a secret.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	var stripeErr *stripego.Error
	if !errors.As(err, &stripeErr) {
		return billing.ErrUnavailable.Because(fmt.Errorf("%s: %w", doing, err))
	}
	refused := refusal(stripeErr)
	if !passing(stripeErr.HTTPStatusCode) {
		return fmt.Errorf("%s: %w", doing, refused)
	}
	// Not as a *Refused, which it is not.
	unavailable := billing.ErrUnavailable.Because(fmt.Errorf("%s: status %d: %s", doing, stripeErr.HTTPStatusCode, refused.Error()))
	if stripeErr.LastResponse != nil {
		unavailable.RetryAfter = retryAfter(stripeErr.LastResponse.Header)
	}
	return unavailable
}

// secret is what keys and signing secrets look like, also where Stripe has blotted out a part.
var secret = regexp.MustCompile(`\b(sk|rk|pk|whsec)_[A-Za-z0-9_*]+`)

func refusal(e *stripego.Error) *billing.Refused {
	r := &billing.Refused{
		Code: string(e.Code), Message: secret.ReplaceAllString(e.Msg, "${1}_..."), RequestID: e.RequestID,
		Configuration: e.HTTPStatusCode == http.StatusUnauthorized || e.HTTPStatusCode == http.StatusForbidden,
	}
	if r.Code == "" {
		r.Code = string(e.Type)
	}
	if e.HTTPStatusCode == http.StatusUnauthorized { // the message quotes the key, whatever it looks like
		r.Message = "the key is not valid"
	}
	return r
}

func missing(err error) bool {
	var stripeErr *stripego.Error
	return errors.As(err, &stripeErr) && stripeErr.HTTPStatusCode == http.StatusNotFound
}

// closed reports whether an item was refused because its invoice has stopped being a draft, or was deleted as one.
func closed(err error) bool {
	var stripeErr *stripego.Error
	if !errors.As(err, &stripeErr) {
		return false
	}
	return stripeErr.Code == stripego.ErrorCodeInvoiceNotEditable ||
		stripeErr.Code == stripego.ErrorCodeResourceMissing && stripeErr.Param == "invoice"
}
