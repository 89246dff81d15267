package billing

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/keymeter/keymeter/internal/fault"
)

// Redirects says where users may be sent back to from the provider's pages.
type Redirects struct {
	// Origins are the allowed origins, such as "https://app.example.com". Any origin is, if there are none.
	Origins []string
	// PortalReturn is where the portal leads back to if the request does not say. "" is the provider's own setting.
	PortalReturn string
}

// NewRedirects checks the operator's settings.
func NewRedirects(origins []string, portalReturn string) (Redirects, error) {
	for _, origin := range origins {
		if u, err := parseRedirect(origin); err != nil || originOf(u) != origin {
			return Redirects{}, fmt.Errorf("allowed origin %q must be like https://app.example.com", origin)
		}
	}
	if portalReturn != "" {
		if _, err := parseRedirect(portalReturn); err != nil {
			return Redirects{}, fmt.Errorf("portal return URL: %w", err)
		}
	}
	return Redirects{Origins: origins, PortalReturn: portalReturn}, nil
}

// check returns what is wrong with a URL that users would be sent to. Stripe's placeholder is allowed as it stands.
func (r Redirects) check(field, raw string) []fault.Field {
	u, err := parseRedirect(strings.ReplaceAll(raw, "{CHECKOUT_SESSION_ID}", "id"))
	if err != nil {
		return []fault.Field{{Name: field, Message: err.Error()}}
	}
	if len(r.Origins) > 0 && !slices.Contains(r.Origins, originOf(u)) {
		return []fault.Field{{Name: field, Message: "is not on an origin that this server allows"}}
	}
	return nil
}

// redirectError is a message about a URL that is fit to be shown.
type redirectError string

func (e redirectError) Error() string { return string(e) }

func parseRedirect(raw string) (*url.URL, error) {
	// What browsers and net/url read differently has no place in a redirect.
	for _, c := range raw {
		if c <= ' ' || c == '\\' || c == 0x7f {
			return nil, redirectError("must not contain spaces, control characters or backslashes")
		}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || !u.IsAbs() || u.Hostname() == "":
		return nil, redirectError("must be an absolute URL")
	case u.User != nil:
		return nil, redirectError("must not contain a user name")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, redirectError("must be https, or http on a loopback address")
	}
	return u, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func originOf(u *url.URL) string { return u.Scheme + "://" + strings.ToLower(u.Host) }
