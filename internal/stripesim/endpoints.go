package stripesim

import (
	"maps"
	"slices"
	"time"
)

// endpoint is a registered receiver of events.
type endpoint struct {
	ID          string
	URL         string
	Secret      string
	Version     string // of the API, for its payloads; none is the account's
	Events      []string
	Description string
	Metadata    map[string]string
	Disabled    bool
	Created     time.Time
}

func (ep *endpoint) key() string { return ep.ID }

func (ep *endpoint) wants(kind string) bool {
	return !ep.Disabled && (slices.Contains(ep.Events, kind) || slices.Contains(ep.Events, "*"))
}

func (s *Sim) createEndpoint(c *call) (object, *apiError) {
	ep := &endpoint{Created: s.instant, Version: c.str("api_version")}
	if ep.Version != "" && !isVersion(ep.Version) {
		c.fail(invalid("api_version", "Invalid API version: "+ep.Version))
	}
	ep.read(c)
	if c.err != nil {
		return nil, c.err
	}
	ep.ID, ep.Secret = s.ids.next("we_1", 23), "whsec_"+s.ids.next("", 32)
	s.endpoints.add(ep)
	out := renderEndpoint(ep)
	out["secret"] = ep.Secret // shown this once
	return out, nil
}

func (ep *endpoint) read(c *call) {
	if c.has("url") {
		ep.URL = c.webURL("url")
	}
	if c.has("enabled_events") {
		ep.Events = c.list("enabled_events")
	}
	if c.has("description") {
		ep.Description = c.str("description")
	}
	ep.Metadata = c.merge("metadata", ep.Metadata)
}

func (s *Sim) updateEndpoint(c *call) (object, *apiError) {
	ep, ok := s.endpoints.get(c.id)
	if !ok {
		return nil, notFound("webhook_endpoint", c.id)
	}
	next := *ep
	next.Metadata = maps.Clone(ep.Metadata)
	next.read(c)
	if disabled, given := c.boolean("disabled"); given {
		next.Disabled = disabled
	}
	if c.err != nil {
		return nil, c.err
	}
	*ep = next
	return renderEndpoint(ep), nil
}

func (s *Sim) getEndpoint(c *call) (object, *apiError) {
	ep, ok := s.endpoints.get(c.id)
	if !ok {
		return nil, notFound("webhook_endpoint", c.id)
	}
	return renderEndpoint(ep), nil
}

func (s *Sim) listEndpoints(c *call) (object, *apiError) {
	return c.page(s.endpoints.newest(func(*endpoint) bool { return true }, renderEndpoint))
}

func (s *Sim) deleteEndpoint(c *call) (object, *apiError) {
	ep, ok := s.endpoints.get(c.id)
	if !ok {
		return nil, notFound("webhook_endpoint", c.id)
	}
	s.endpoints.remove(ep)
	for _, ev := range s.events.items {
		for _, d := range ev.Deliveries {
			if d.Endpoint == ep.ID && d.State == Pending {
				d.State = Skipped
			}
		}
	}
	s.signal()
	return object{"id": ep.ID, "object": "webhook_endpoint", "deleted": true}, nil
}

func renderEndpoint(ep *endpoint) object {
	status := "enabled"
	if ep.Disabled {
		status = "disabled"
	}
	return object{
		"id": ep.ID, "object": "webhook_endpoint", "api_version": orNull(ep.Version), "application": nil,
		"created": ep.Created.Unix(), "description": orNull(ep.Description), "enabled_events": ep.Events,
		"livemode": false, "metadata": renderMetadata(ep.Metadata), "status": status, "url": ep.URL,
	}
}
