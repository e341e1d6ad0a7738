// Package usm is a client of usmd: a session, its regions, and the faults that bring their pages in.
// docs/other-languages.md explains each step.
package usm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "usmd.example/usmv1"
)

// Error is a call or a fault that failed. Reason is a FailureReason without its prefix, such as "OUT_OF_MEMORY".
type Error struct {
	Reason  string
	Message string
}

func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// failed returns the error of a call with the reason that usmd gave; other errors, such as a lost connection, stay.
func failed(err error) error {
	if err == nil {
		return nil
	}
	answered := status.Convert(err)
	for _, detail := range answered.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "usmd" {
			return &Error{info.GetReason(), answered.Message()}
		}
	}
	return err
}

// Session is a session with usmd. Its regions end with it. Goroutines may share it.
type Session struct {
	*pb.AttachResponse
	conn     *grpc.ClientConn
	identity net.Conn
	client   pb.ClientServiceClient
	stream   pb.ClientService_StreamFaultsClient
	sending  sync.Mutex // a stream takes one message at a time

	mutex     sync.Mutex // of what follows
	waiting   map[uint64]chan<- error
	lastFault uint64
	yields    int
	end       error
}

// Attach begins a session with the daemon whose socket has this path. The session ends with the context.
func Attach(ctx context.Context, path, name string) (*Session, error) {
	ticket, identity, err := identify(path + ".identity")
	if err != nil {
		return nil, err
	}
	session := &Session{identity: identity, waiting: map[uint64]chan<- error{}}
	if err := session.begin(ctx, path, name, ticket); err != nil {
		session.disconnect()
		return nil, failed(err)
	}
	go session.receive()
	return session, nil
}

// identify reads the ticket for Attach from the identity socket, which proves this process and its user. The
// connection stays open as long as the session: usmd ends the session when it closes.
func identify(path string) (string, net.Conn, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && strings.HasPrefix(line, "!") {
		err = &Error{"LIMIT_EXCEEDED", strings.TrimSpace(line[1:])}
	}
	if err != nil {
		conn.Close()
		return "", nil, err
	}
	return strings.TrimSpace(line), conn, nil
}

// begin attaches, and opens the session's own stream, as each session must within ten seconds.
func (s *Session) begin(ctx context.Context, path, name, ticket string) (err error) {
	if s.conn, err = grpc.Dial("unix://"+path, grpc.WithInsecure()); err != nil {
		return err
	}
	s.client = pb.NewClientServiceClient(s.conn)
	shown := metadata.AppendToOutgoingContext(ctx, "usm-ticket", ticket)
	if s.AttachResponse, err = s.client.Attach(shown, &pb.AttachRequest{Name: name, Ticket: ticket}); err != nil {
		return err
	}
	s.stream, err = s.client.StreamFaults(s.with(ctx))
	return err
}

// with adds the session's token to the metadata of a call.
func (s *Session) with(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "usm-session-token", s.GetSessionToken())
}

// receive hands outcomes to the goroutines that wait for them, until the session ends.
func (s *Session) receive() {
	for {
		answer, err := s.stream.Recv()
		if err != nil {
			s.ended(err)
			return
		}
		s.mutex.Lock()
		for _, outcome := range answer.GetOutcomes() {
			s.take(outcome)
		}
		s.mutex.Unlock()
	}
}

func (s *Session) ended(err error) {
	if errors.Is(err, io.EOF) {
		err = &Error{"UNKNOWN_SESSION", "the session has ended"}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.end = failed(err)
	for _, done := range s.waiting {
		done <- s.end
	}
	s.waiting = nil
}

func (s *Session) take(outcome *pb.Outcome) {
	done, ok := s.waiting[outcome.GetFaultId()]
	if !ok {
		return
	}
	switch result := outcome.GetOutcome().(type) {
	case *pb.Outcome_Yielded: // the goroutine may do something else: its completion comes later
		return
	case *pb.Outcome_Allocated:
		if result.Allocated.GetYieldToken() != 0 {
			s.yields++
		}
		done <- nil
	case *pb.Outcome_Failure:
		reason := strings.TrimPrefix(result.Failure.GetReason().String(), "FAILURE_REASON_")
		done <- &Error{reason, result.Failure.GetMessage()}
	default:
		done <- fmt.Errorf("fault %d has an outcome of a kind that this client does not know", outcome.GetFaultId())
	}
	delete(s.waiting, outcome.GetFaultId())
}

// Yields returns how many faults were answered USM_YIELD first, and completed later.
func (s *Session) Yields() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.yields
}

// Fault brings pages of a region into memory, at most MaxBatchFaults of them, and waits for that.
func (s *Session) Fault(region uint64, pages []uint64, write bool) error {
	outcomes := make(chan error, len(pages)) // with room, so that receive never waits
	request := &pb.StreamFaultsRequest{}
	s.mutex.Lock()
	if s.end != nil {
		defer s.mutex.Unlock()
		return s.end
	}
	for _, page := range pages {
		s.lastFault++
		s.waiting[s.lastFault] = outcomes
		request.Faults = append(request.Faults, &pb.Fault{
			FaultId: s.lastFault, RegionId: region, FirstPage: page, PageCount: 1, Write: write,
		})
	}
	s.mutex.Unlock()
	s.sending.Lock()
	_ = s.stream.Send(request) // if it fails, the stream has ended, and receive says why
	s.sending.Unlock()
	var first error
	for range pages {
		if err := <-outcomes; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Map makes a region of zeros.
func (s *Session) Map(ctx context.Context, length uint64, name string) (*pb.Region, error) {
	region, err := s.client.MapRegion(s.with(ctx), &pb.MapRegionRequest{Length: length, Name: name})
	return region, failed(err)
}

// Hint says something about a range of a region.
func (s *Session) Hint(ctx context.Context, hint *pb.HintRegionRequest) (*pb.HintRegionResponse, error) {
	answer, err := s.client.HintRegion(s.with(ctx), hint)
	return answer, failed(err)
}

// Load reads bytes.
func (s *Session) Load(ctx context.Context, region, offset, length uint64) ([]byte, error) {
	for {
		request := &pb.LoadRequest{RegionId: region, Offset: offset, Length: length}
		answer, err := s.client.Load(s.with(ctx), request)
		if err != nil || len(answer.GetAbsentPages()) == 0 {
			return answer.GetData(), failed(err)
		}
		if err := s.Fault(region, answer.GetAbsentPages(), false); err != nil {
			return nil, err
		}
	}
}

// Store writes bytes.
func (s *Session) Store(ctx context.Context, region, offset uint64, data []byte) error {
	for {
		request := &pb.StoreRequest{RegionId: region, Offset: offset, Data: data}
		answer, err := s.client.Store(s.with(ctx), request)
		if err != nil || len(answer.GetAbsentPages()) == 0 {
			return failed(err)
		}
		if err := s.Fault(region, answer.GetAbsentPages(), true); err != nil {
			return err
		}
	}
}

// Close ends the session.
func (s *Session) Close(ctx context.Context) error {
	_, err := s.client.Detach(s.with(ctx), &pb.DetachRequest{})
	s.disconnect()
	return failed(err)
}

func (s *Session) disconnect() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.identity.Close()
}

// Status returns the state of the daemon, from the operators' socket.
func Status(ctx context.Context, path string) (*pb.GetStatusResponse, error) {
	conn, err := grpc.Dial("unix://"+path, grpc.WithInsecure())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := pb.NewAdminServiceClient(conn).GetStatus(ctx, &pb.GetStatusRequest{})
	return answer, failed(err)
}
