# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What "AutocertHostPolicy ask" asks: an HTTP server on loopback that says yes or no to
# names, can be told to misbehave while it runs, and writes down every question.
#
#   my $endpoint = Autocert::Endpoint->new(yes => '^[a-z]+\.good\.test$');
#   ... "AutocertHostPolicy ask " . $endpoint->url
#   $endpoint->set(yes => ['a.good.test'], delay => 0.5);
#   is scalar($endpoint->questions('a.good.test')), 1, 'asked once';
#
# Arguments of new(), which also starts it:
#   port      else a free one
#   socket    true: a Unix socket instead
# and settings, which set() replaces all at once, from the next question on:
#   yes       the names: a regular expression or a list; default: none
#   yes_status, no_status   default 200 and 404
#   status    instead of both
#   delay     seconds before the answer begins; other questions do not wait for it
#   headers   {name => value} of the answer
#   body      text of the answer
#   mode      hang      the question is read and never answered
#             close     the connection ends instead of an answer
#             garbage   bytes that are no HTTP, then the end
#             drip      an answer that comes byte by byte and never gets to its body
#             endless   an answer whose body has no end
#   names     {name => {...}}: any of these for one name
#
# What it was asked, in order; hashes with time, method, path, query, domain, ip (undef:
# not in the query), headers, answer (the status or mode):
#   asked()            everything
#   questions()        all but canaries, which are about names below "invalid"
#   questions($name)   about one name
#   domains()          the names of questions()
package Autocert::Endpoint;

use strict;
use warnings;

use Errno ();
use IO::Select ();
use IO::Socket::INET ();
use IO::Socket::UNIX ();
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use Autocert::Util qw(free_ports slurp spit scratch reap_within wait_until on_exit);

use constant {
    PIECE         => 16_384,
    HEAD_MAX      => 65_536,
    BACKLOG       => 512,
    IDLE_SECONDS  => 1,        # longest sleep of the loop
    DRIP_SECONDS  => 0.1,
    MODE_OTHERS   => 0777,     # of the socket: the server's user connects to it
    GARBAGE       => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\0\xff\xfe\r\n\r\n",
};

my %MODES = map { $_ => 1 } qw(hang close garbage drip endless);
my %SETTINGS = map { $_ => 1 } qw(yes yes_status no_status status delay headers body mode names);

my $count = 0;

sub new
{
    my ($class, %arg) = @_;

    my %set = map { $_ => delete $arg{$_} } grep { $SETTINGS{$_} } keys %arg;
    my $self = bless {%arg}, $class;
    # Short, as the name of a Unix socket must be.
    my $stem = scratch() . "/endpoint.$$." . ++$count;
    $self->{settings_file} = "$stem.json";
    $self->{log_file} = "$stem.log";
    if ($self->{socket}) {
        $self->{socket} = "$stem.sock";
    }
    else {
        $self->{port} //= free_ports(1);
    }
    $self->set(%set);
    $self->start;
    on_exit(sub { $self->stop });
    return $self;
}

sub port { return $_[0]{port} }

# As "AutocertHostPolicy ask" wants it; a path may have a query.
sub url
{
    my ($self, $path) = @_;
    $path //= '/may-have';
    return "unix:$self->{socket}|http://localhost$path" if $self->{socket};
    return "http://127.0.0.1:$self->{port}$path";
}

sub set
{
    my ($self, %set) = @_;

    my $plain = plain_settings(\%set);
    my $new = spit("$self->{settings_file}.new", JSON::PP->new->canonical->encode($plain));
    rename $new, $self->{settings_file} or die "$new: rename: $!\n";
    return;
}

# JSON has no expressions: their text will do.
sub plain_settings
{
    my ($set) = @_;

    for my $key (keys %$set) {
        die "an endpoint has no setting $key\n" unless $SETTINGS{$key};
    }
    die "an endpoint has no mode $set->{mode}\n"
        if defined $set->{mode} && !$MODES{ $set->{mode} };
    my %plain = %$set;
    $plain{yes} = "$plain{yes}" if defined $plain{yes} && ref $plain{yes} ne 'ARRAY';
    if ($plain{names}) {
        my %names = %{ $plain{names} };
        $plain{names} = { map { $_ => plain_settings($names{$_}) } keys %names };
    }
    return \%plain;
}

# It listens when this returns.
sub start
{
    my ($self) = @_;

    die "the endpoint runs already\n" if $self->{pid};
    my $listener = $self->open_listener;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        POSIX::setpgid(0, 0);
        eval { serve($self, $listener); 1 } or warn "endpoint: $@";
        POSIX::_exit(0);
    }
    close $listener;
    spit(scratch() . "/pids/$pid", "endpoint\n");
    $self->{pid} = $pid;
    return;
}

sub open_listener
{
    my ($self) = @_;

    my $listener;
    if ($self->{socket}) {
        unlink $self->{socket};
        $listener = IO::Socket::UNIX->new(Local => $self->{socket}, Listen => BACKLOG)
            // die "endpoint $self->{socket}: $!\n";
        chmod MODE_OTHERS, $self->{socket} or die "$self->{socket}: $!\n";
    }
    else {
        $listener = IO::Socket::INET->new(Listen => BACKLOG, LocalAddr => '127.0.0.1',
            LocalPort => $self->{port}, Proto => 'tcp', ReuseAddr => 1)
            // die "endpoint on port $self->{port}: $@\n";
    }
    $listener->blocking(0);
    return $listener;
}

# From now on connections are refused, until start().
sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill 'KILL', $pid;
    reap_within($pid, 5);
    return;
}

sub asked
{
    my ($self) = @_;
    my $text = slurp($self->{log_file}) // '';
    return map { JSON::PP::decode_json($_) } $text =~ /^(.+)\n/mg;
}

sub questions
{
    my ($self, $name) = @_;
    return grep {
        my $domain = $_->{domain} // '';
        defined $name ? $domain eq $name : $domain !~ /(?:\A|\.)invalid\z/;
    } $self->asked;
}

sub domains
{
    my ($self) = @_;
    return map { $_->{domain} } $self->questions;
}

sub wait_for_question
{
    my ($self, $domain, $seconds) = @_;
    return wait_until($seconds // 10, sub { ($self->questions($domain))[0] },
        "a question about $domain");
}

# --- The server's process ---

# A connection is {socket, in, out, at (when "out" may begin), silent (no answer comes),
# last (ends after "out"), refill (what is added to "out" when it is empty), every}.
sub serve
{
    my ($self, $listener) = @_;

    my %open;
    for (;;) {
        my $now = Time::HiRes::time();
        my $sleep = IDLE_SECONDS;
        my ($reading, $writing) = (IO::Select->new($listener), IO::Select->new);
        for my $c (values %open) {
            $reading->add($c->{socket});
            next if $c->{out} eq '';
            $writing->add($c->{socket}) if $c->{at} <= $now;
            $sleep = $c->{at} - $now if $c->{at} > $now && $c->{at} - $now < $sleep;
        }
        my ($can_read, $can_write) = IO::Select->select($reading, $writing, undef, $sleep);
        for my $socket (@{ $can_read // [] }) {
            if ($socket == $listener) {
                while (my $new = $listener->accept) {
                    $new->blocking(0);
                    $open{ fileno $new } = { socket => $new, in => '', out => '', at => 0 };
                }
                next;
            }
            my $c = $open{ fileno $socket };
            delete $open{ fileno $socket } unless take_bytes($self, $c);
        }
        for my $socket (@{ $can_write // [] }) {
            my $c = $open{ fileno $socket } // next;
            delete $open{ fileno $socket } unless give_bytes($self, $c);
        }
    }
    return;
}

# False when the connection is to end.
sub take_bytes
{
    my ($self, $c) = @_;

    my $got = sysread $c->{socket}, $c->{in}, PIECE, length $c->{in};
    return $!{EAGAIN} || $!{EINTR} unless defined $got;
    return 0 if $got == 0 || length $c->{in} > HEAD_MAX;
    return next_question($self, $c);
}

sub give_bytes
{
    my ($self, $c) = @_;

    my $sent = syswrite $c->{socket}, $c->{out};
    return $!{EAGAIN} || $!{EINTR} unless defined $sent;
    substr $c->{out}, 0, $sent, '';
    return 1 if $c->{out} ne '';
    if (defined $c->{refill}) {
        $c->{out} = $c->{refill};
        $c->{at} = Time::HiRes::time() + $c->{every};
        return 1;
    }
    return 0 if $c->{last};
    return next_question($self, $c);
}

# One after another on each connection.
sub next_question
{
    my ($self, $c) = @_;

    return 1 if $c->{silent} || $c->{out} ne '' || $c->{in} !~ s/\A(.*?)\r\n\r\n//s;
    my $question = parse_question($1) // return 0;
    my $rules = rules_for($self, $question->{domain});
    my $says = says_yes($rules, $question->{domain});
    my $status = $rules->{status}
        // ($says ? $rules->{yes_status} // 200 : $rules->{no_status} // 404);
    my $mode = $rules->{mode} // 'answer';
    my $last = delete $question->{last};
    $c->{last} = $last || $mode ne 'answer';
    $c->{at} = Time::HiRes::time() + ($rules->{delay} // 0);
    note($self, { %$question, answer => $mode eq 'answer' ? $status : $mode });
    if ($mode eq 'hang') {
        $c->{silent} = 1;
    }
    elsif ($mode eq 'close') {
        return 0;
    }
    elsif ($mode eq 'garbage') {
        $c->{out} = GARBAGE;
    }
    else {
        my %header = ('Content-Type' => 'text/plain', %{ $rules->{headers} // {} });
        my $body = $rules->{body} // ($says ? "yes\n" : "no\n");
        $header{'Content-Length'} //= length $body if $mode eq 'answer';
        $header{Connection} //= 'close' if $c->{last};
        $c->{out} = "HTTP/1.1 $status Said\r\n"
            . join('', map { "$_: $header{$_}\r\n" } sort keys %header);
        @$c{qw(refill every)} = ('x', DRIP_SECONDS) if $mode eq 'drip';
        @$c{qw(refill every)} = ('x' x PIECE, 0) if $mode eq 'endless';
        $c->{out} .= $mode eq 'drip' ? 'X-Drip: ' : "\r\n$body";
    }
    return 1;
}

sub parse_question
{
    my ($head) = @_;

    my ($first, @lines) = split /\r\n/, $head;
    my ($method, $target, $version) =
        ($first // '') =~ m{\A([A-Z]+) (\S+) HTTP/1\.([01])\z} or return;
    my ($path, $query) = split /\?/, $target, 2;
    my %field;
    for my $pair (split /&/, $query // '') {
        my ($key, $value) = map { tr/+/ /r =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger }
            split /=/, $pair, 2;
        $field{ $key // '' } = $value // '';
    }
    my %header = map { /\A([^:]+):\s*(.*?)\s*\z/ ? (lc $1 => $2) : () } @lines;
    my $connection = lc($header{connection} // '');
    return {
        time => Time::HiRes::time(), method => $method, path => $path, query => $query // '',
        domain => $field{domain}, ip => $field{ip}, headers => \%header,
        last => $version ? $connection eq 'close' : $connection ne 'keep-alive',
    };
}

sub rules_for
{
    my ($self, $domain) = @_;
    my $rules = JSON::PP::decode_json(slurp($self->{settings_file}));
    return { %$rules, %{ $rules->{names}{ $domain // '' } // {} } };
}

sub says_yes
{
    my ($rules, $domain) = @_;
    return 0 unless defined $domain && defined $rules->{yes};
    return $domain =~ /$rules->{yes}/ ? 1 : 0 unless ref $rules->{yes};
    return scalar grep { $_ eq $domain } @{ $rules->{yes} };
}

# In one piece, so that a reader never sees half a line.
sub note
{
    my ($self, $question) = @_;
    open my $out, '>>', $self->{log_file} or die "$self->{log_file}: $!\n";
    syswrite $out, JSON::PP->new->canonical->encode($question) . "\n";
    close $out;
    return;
}

1;
