# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# Nonces: half of them refused, all of them refused, newNonce that is odd or broken; pages of something in
# front of the CA instead of its answers. Half of the nonces refused must not be felt: names are obtained
# and renewed, by CAs old and new, with and without authorizations that stay valid.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored);
use Autocert::FaultProxy;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    OBTAIN_SECONDS => 60,
    LIFETIME       => 12,        # seconds, of certificates that are renewed meanwhile
    NAMES          => 4,
    REFUSED_MOST   => 21,        # POSTs with a fresh nonce each that are refused: the first and 20 more
};

my $page = "<html>\n<head><title>Sorry</title></head>\n<body>Back soon</body>\n</html>\n";
my $html = { 'Content-Type' => 'text/html; charset=utf-8' };

sub new_server
{
    my ($pebble, %arg) = @_;
    return Autocert::Server->with_ca($pebble, loglevel => 'notice autocert:debug', %arg);
}

# --- Half of the nonces refused (looked at last) ---

my @kinds = (['old, every name is validated', 0, 0], ['old, authorizations stay valid', 0, 100],
    ['new, every name is validated', 1, 0], ['new, authorizations stay valid', 1, 100]);
my @half;
for my $kind (@kinds) {
    my ($what, $new, $reuse) = @$kind;
    my @names = map { 'half' . scalar(@half) . "-$_.example.test" } 1 .. NAMES;
    my $pebble = Autocert::Pebble->new(new => $new, lifetime => LIFETIME, env => {
        PEBBLE_WFE_NONCEREJECT => 50, PEBBLE_AUTHZREUSE => $reuse,
    }, config => { retryAfter => { authz => 1, order => 1 } })->start;
    my $server = new_server($pebble, config => vhosts(@names), start_servers => 1);
    ok $server->start, "$what: httpd starts" or exit 1;
    push @half, { what => $what, pebble => $pebble, server => $server, names => \@names, reuse => $reuse };
}

subtest 'all nonces refused' => sub {
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 100 })->start;
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble)->start;
    my $server = new_server($pebble, vars => $proxy->vars, config => vhosts('all.example.test'));
    ok $server->start, 'httpd starts' or return;
    my $said = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0130'))[0] });
    like $said && $said->{text}, qr/badNonce.*next try .* \(in \d+ s\)$/,
        'F01: the CA is left alone for a while, and the log says until when';
    cmp_ok $proxy->count(class => 'newAccount'), '<=', REFUSED_MOST * count_events($server, 'AC0130') + REFUSED_MOST,
        'F01: a request is signed anew a few times, not for ever';
    is count_events($server, 'AC0120'), 0, 'F01: it is no failure of the name';
    ok $server->stop, 'httpd stops';
};

subtest 'newNonce' => sub {
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 20 })->start;
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble)->start;
    my @cases = (
        ['404', answer => { status => 404, body => $page, headers => $html }],
        ['405', answer => { status => 405 }],
        ['504 with a page', answer => { status => 504, body => $page, headers => $html }],
        ['no Replay-Nonce', set => { headers => { 'Replay-Nonce' => undef } }],
        ['a nonce that is none', set => { headers => { 'Replay-Nonce' => 'not a nonce!' } }],
    );
    my @names = map { "head$_.example.test" } 0 .. @cases;
    my $server = new_server($pebble, vars => $proxy->vars, config => vhosts($names[0]));
    for my $n (0 .. $#cases) {
        my ($what, @fault) = @{ $cases[$n] };
        my $id = $proxy->rule(class => 'newNonce', method => 'HEAD', @fault);
        my $mark = $server->mark;
        # Anew, without a nonce in hand.
        $server->write_config("AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertAcceptTOS on\n"
                . "AutocertCache dir:\@cache\@\n" . vhosts(@names[0 .. $n])) if $n > 0;
        ok $n == 0 ? $server->start : $server->graceful, "F02: HEAD: $what: httpd starts" or return;
        ok all_stored($server, OBTAIN_SECONDS, $names[$n]), "F02: HEAD: $what: obtained";
        cmp_ok $proxy->count(class => 'newNonce', method => 'GET'), '>', $n, "F02: HEAD: $what: by a GET";
        is count_events($server, 'AC0130', $mark), 0, "F02: HEAD: $what: the CA is not taken for dead";
        $proxy->clear($id);
    }
    my $id = $proxy->rule(class => 'newNonce', answer => { status => 504, body => $page, headers => $html });
    $server->write_config("AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertAcceptTOS on\n"
            . "AutocertCache dir:\@cache\@\n" . vhosts(@names));
    my $mark = $server->mark;
    ok $server->graceful, 'F02: neither HEAD nor GET' or return;
    my $said = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0130', $mark))[0] });
    like $said && $said->{text}, qr/504.*next try .* \(in \d+ s\)$/, 'F02: the CA is left alone for a while';
    $proxy->clear($id);
    ok all_stored($server, OBTAIN_SECONDS, $names[-1]), 'F02: obtained when it is well again';
    is count_events($server, 'AC0120'), 0, 'F02: no failure of a name in all that';
    ok $server->stop, 'httpd stops';
};

subtest 'pages instead of answers' => sub {
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    my %page = map { $_ => { status => $_, body => $page, headers => $html } } 403, 500, 502, 503;
    my @during = map { "page-$_.example.test" } qw(order authz challenge finalize cert);
    my @rules = map { my $name = $_; my ($class) = /-(\w+)/; +{ name => $name, class => $class, to => 1,
        answer => $page{502} } } @during;
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble, rules => [
        { class => 'directory', to => 1, answer => $page{503} },
        { class => 'newAccount', to => 1, answer => $page{403} },
        { class => 'newOrder', to => 1, answer => $page{500} }, @rules])->start;
    my $server = new_server($pebble, vars => $proxy->vars, config => vhosts(@during));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, @during), 'F03: names are obtained in spite of pages everywhere';
    my @said = map { $_->{text} } events($server, 'AC0130');
    like join("\n", @said), qr/$_.*next try/, "F03: $_ is told" for 503, 403, 500;
    is count_events($server, 'AC0132'), 1, 'F03: and that the CA is well again';
    is count_events($server, 'AC0120'), 0, 'F03: no failure of a name';
    unlike $server->log_since(0), qr/Back soon/, 'F03: no HTML in the log';
    is scalar($proxy->orders(name => $_)), 1, "F03: $_: one order" for @during;
    ok $server->stop, 'httpd stops';
};

subtest 'half of the nonces refused' => sub {
    for my $half (@half) {
        my ($what, $server, $pebble) = @$half{qw(what server pebble)};
        my @names = @{ $half->{names} };
        ok wait_until(OBTAIN_SECONDS, sub {
            my %times;
            $times{ $_->{name} }++ for events($server, 'AC0110');
            return !grep { ($times{$_} // 0) < 2 } @names;
        }), "F01: $what: all names are obtained and renewed";
        my $root = $pebble->root;
        is scalar(grep { !handshake(port => $server->https, sni => $_, ca => $root)->{ok} } @names), 0,
            "F01: $what: all are served";
        is count_events($server, $_), 0, "F01: $what: no $_" for qw(AC0120 AC0122 AC0130);
        my @renewed = grep { $_->{text} =~ /^renewed / } events($server, 'AC0110');
        my @without = grep { $_->{text} =~ /^renewed from localhost:\d+ in / } @renewed;
        # Pebble takes one in a hundred again even when told to take none.
        ok $half->{reuse} ? @without > @renewed / 2 : @without < @renewed / 2,
            "F27: $what: " . ($half->{reuse} ? 'orders that are ready at once are taken as they are' : 'always');
        ok $server->stop, "$what: httpd stops";
        $pebble->stop_all;
    }
};

done_testing;
