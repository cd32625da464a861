# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# seconds: 1800
#
# Names on demand, beside a server with Go's autocert that does the same with a Pebble of
# the same settings: what the first handshake for a name takes and what the second, beside
# one with a static certificate; a hundred new names from twenty clients at once; and what
# good clients notice of a flood of random names.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Bench qw(quick report table median cpu_seconds memory fill_cache host
    bench_program);
use Autocert::Client qw(make_ca issue_pair);
use Autocert::Endpoint;
use Autocert::GoServer;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(slurp spit run_program spawn reap_within);

use constant {
    FIRST_MAX     => 0.5,      # seconds
    SECOND_RATIO  => 1.5,      # to a static certificate; single handshakes scatter
    QUICK_RATIO   => 3,        # few of them: a smoke run looks for disasters
    FACTOR_MIN    => 3,
    KEEP_MIN      => 0.8,      # of the rate of good handshakes, in a flood
    WARM          => 200,      # handshakes before the first that counts as a second
    CLIENTS       => 20,
    GOOD_NAMES    => 50,
    GOOD_RATE     => 200,      # handshakes a second
    FLOOD_RATE    => 1000,
    FLOOD_CLIENTS => 40,
    RUN_SECONDS   => 600,      # bound of one run of the clients
};

my $single_names = quick() ? 3 : 11;
my $second_ratio = quick() ? QUICK_RATIO : SECOND_RATIO;
my $many_names = $ENV{AUTOCERT_BENCH_NAMES} // (quick() ? 20 : 100);
my $flood_seconds = quick() ? 3 : 20;
# Waiting handshakes hold workers, at most half of a child's; all clients may wait in one.
my %workers = (threads => 64, server_limit => 2, start_servers => 2, loglevel => 'warn');

sub start_pebble
{
    my ($name) = @_;
    my $pebble = Autocert::Pebble->new(name => "ca-$name",
        env => { PEBBLE_WFE_NONCEREJECT => 5, PEBBLE_AUTHZREUSE => 0, PEBBLE_VA_NOSLEEP => 1 });
    return $pebble->start;
}

# Any name; an endpoint is asked about each, as it would be in life.
my $endpoint = Autocert::Endpoint->new(yes => '\.test$');

sub start_ours
{
    my ($name, $mpm) = @_;

    my $pebble = start_pebble($name);
    my $server = Autocert::Server->new(
        name => $name, mpm => $mpm, http => $pebble->http, https => $pebble->https,
        vars => { %{ $pebble->vars }, ask => $endpoint->url }, config => <<'CONF',
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertWait 20s 100
AutocertClientLimit none
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy ask @ask@
</VirtualHost>
CONF
        $mpm eq 'prefork' ? (%workers, start_servers => 64, max_workers => 128) : %workers);
    $server->start or die "$name does not start\n";
    return { what => 'mod_autocert', pebble => $pebble, server => $server };
}

sub start_go
{
    my ($name) = @_;
    my $pebble = start_pebble($name);
    return { what => 'Go autocert', pebble => $pebble,
        server => Autocert::GoServer->new(name => $name, pebble => $pebble)->start };
}

sub stop_run
{
    my ($run) = @_;
    $run->{server}->stop;
    $run->{pebble}->stop_all;
    return;
}

# New names, each once: ({name => {seconds, result, serial}}, seconds of all).
sub visit
{
    my ($port, $cafile, $clients, @names) = @_;

    my ($status, $text) = run_program(
        [bench_program('bench_demand'), $port, $cafile, $clients, 'names', @names],
        seconds => RUN_SECONDS);
    my ($total) = $text =~ /^total (\S+)$/m or die "bench_demand: $text";
    my %seen = map { /^(\S+) ([0-9.]+) (\S+) (\S+)$/
            ? ($1 => { seconds => $2, result => $3, serial => $4 }) : () } split /\n/, $text;
    return (\%seen, $total);
}

sub milliseconds { return sprintf '%.1f', $_[0] * 1000 }

# --- One name after the other ---

sub start_static
{
    my (@names) = @_;

    my $ca = make_ca('a static CA');
    my $pair = issue_pair($ca, \@names);
    my $server = Autocert::Server->new(name => 'static', module => 0, %workers, config => sub {
        my ($self) = @_;
        my $stem = $self->root . '/conf/pair';
        spit("$stem.pem", $pair->{pem} . $pair->{chain_pem});
        spit("$stem.key", $pair->{key_pem}, 0600);
        return <<"CONF";
<VirtualHost 127.0.0.1:\@https\@>
    ServerName $names[0]
    SSLEngine on
    SSLCertificateFile $stem.pem
    SSLCertificateKeyFile $stem.key
</VirtualHost>
CONF
    });
    $server->start or die "the static server does not start\n";
    return { what => 'mod_ssl, static', server => $server,
        root => spit($server->root . '/ca.pem', $ca->{pem}) };
}

sub measure_single
{
    my @names = map { "single$_.example.test" } 1 .. $single_names;
    my $static = start_static(@names);
    my @runs = (start_ours('single', 'event'), start_go('single-go'));
    $_->{root} = $_->{pebble}->root for @runs;
    # The static server comes right after ours: what the neighbours do changes with time.
    my ($ours, $go) = @runs;
    my @order = ($ours, $static, $go);
    for my $name (@names) {
        for my $run (@order) {
            my @visit = ($run->{server}->https, $run->{root}, 1);
            if ($run != $static) {
                my ($seen) = visit(@visit, $name);
                is $seen->{$name}{result}, 'ok', "$run->{what}: first handshake for $name";
                push @{ $run->{first} }, $seen->{$name}{seconds};
            }
            # A thread that serves for the first time pays for what is made then.
            visit(@visit, ($name) x WARM) if $name eq $names[0];
            my ($seen) = visit(@visit, $name);
            is $seen->{$name}{result}, 'ok', "$run->{what}: another handshake for $name";
            push @{ $run->{second} }, $seen->{$name}{seconds};
        }
    }
    for my $run (@runs) {
        is $run->{pebble}->orders, @names, "$run->{what}: as many orders as names";
    }

    my @rows = ['server', 'first ms', 'slowest first ms', 'second ms'];
    for my $run (@order) {
        my @first = @{ $run->{first} // [] };
        push @rows, [$run->{what}, @first ? milliseconds(median(@first)) : '-',
            @first ? milliseconds((sort { $b <=> $a } @first)[0]) : '-',
            milliseconds(median(@{ $run->{second} }))];
    }
    table("One new name after another, median of $single_names: its first handshake and its second",
        @rows);
    cmp_ok median(@{ $ours->{first} }), '<', FIRST_MAX,
        'seconds of the first handshake for a name';
    my $ratio = median(map { $ours->{second}[$_] / $static->{second}[$_] } 0 .. $#names);
    report(sprintf 'the second handshake takes %.2f times as long as a static one (goal: at most %s)',
        $ratio, $second_ratio);
    cmp_ok $ratio, '<=', $second_ratio, 'the second handshake, beside a static certificate';
    stop_run($_) for @runs;
    $static->{server}->stop;
    return;
}

# --- Many names at once ---

sub measure_many
{
    my ($run) = @_;

    my $title = $run->{title} = "$run->{what}, $run->{mpm}";
    my @names = map { host($_) } 0 .. $many_names - 1;
    my $server = $run->{server};
    my @pids = ($server->pid, $server->can('children') ? $server->children : ());
    my $before = cpu_seconds(@pids);
    (my $seen, $run->{seconds}) = visit($server->https, $run->{pebble}->root, CLIENTS, @names);
    $run->{cpu} = cpu_seconds(@pids) - $before;
    my @bad = grep { ($seen->{$_}{result} // 'lost') ne 'ok' } @names;
    is scalar @bad, 0, "$title: every first handshake succeeds"
        or diag join "\n", map { "$_: " . ($seen->{$_}{result} // 'lost') } @bad;
    my %serials = map { ($_->{serial} // '-') => 1 } values %$seen;
    delete $serials{'-'};
    $run->{certificates} = keys %serials;
    is $run->{certificates}, $many_names, "$title: as many certificates as names";
    $run->{orders} = $run->{pebble}->orders;
    is $run->{orders}, $many_names, "$title: as many orders as names";
    $run->{times} = [map { $_->{seconds} } values %$seen];
    stop_run($run);
    return $run;
}

sub measure_all_many
{
    my @runs = map {
        my $run = start_ours("many-$_", $_);
        measure_many({ %$run, mpm => $_ });
    } quick() ? 'event' : ('event', 'worker', 'prefork');
    my $go = measure_many({ %{ start_go('many-go') }, mpm => '-' });

    my @rows = ['server', 'MPM', 'names', 'certificates', 'orders', 'seconds', 'median handshake ms',
        'server CPU s', "Go's time / ours"];
    for my $run (@runs, $go) {
        push @rows, [@$run{qw(what mpm)}, $many_names, @$run{qw(certificates orders)},
            sprintf('%.2f', $run->{seconds}), milliseconds(median(@{ $run->{times} })),
            sprintf('%.2f', $run->{cpu}),
            $run == $go ? '-' : sprintf('%.1f', $go->{seconds} / $run->{seconds})];
    }
    table('New names from ' . CLIENTS . ' clients at once, each handshake once', @rows);
    for my $run (@runs) {
        cmp_ok $go->{seconds} / $run->{seconds}, '>=', FACTOR_MIN,
            "$run->{title}: times as fast as Go's autocert";
    }
    return;
}

# --- A flood ---

# Clients that keep a pace: started with pace(), which returns what paced() waits for.
my $paced = 0;

sub pace
{
    my ($server, $cafile, $clients, $rate, @names) = @_;
    my $file = $server->root . '/clients.' . ++$paced;
    my $pid = spawn([bench_program('bench_demand'), $server->https, $cafile, $clients, 'paced',
        $rate, $flood_seconds, @names], output => $file);
    return { pid => $pid, file => $file };
}

sub paced
{
    my ($pace) = @_;
    my $status = reap_within($pace->{pid}, RUN_SECONDS) // die "the clients do not end\n";
    my $text = slurp($pace->{file});
    my %seen;
    (@seen{qw(ok refused failed median slow)}) =
        $text =~ /^(\d+) (\d+) (\d+) ([0-9.]+) ([0-9.]+)$/m or die "bench_demand: $text";
    return \%seen;
}

sub measure_flood
{
    my $pebble = start_pebble('flood');
    my $server = Autocert::Server->new(
        name => 'flood', http => $pebble->http, https => $pebble->https, vars => $pebble->vars,
        %workers, config => <<'CONF');
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertClientLimit none
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match host000[0-4][0-9]\.example\.test
</VirtualHost>
CONF
    my $cafile = $server->root . '/ca.pem';
    fill_cache($server->cache, $cafile, GOOD_NAMES, $server->user);
    $server->start or die "the server does not start\n";
    my @good = ($server, $cafile, CLIENTS, GOOD_RATE, 'known', GOOD_NAMES);
    my @flood = ($server, $cafile, FLOOD_CLIENTS, FLOOD_RATE);

    # All names are in the memory of all children and every thread has worked before anything
    # is measured: what grows after that grows with the names.
    my $warm = pace(@flood, 'known', GOOD_NAMES);
    paced(pace(@good));
    paced($warm);
    my @runs = (
        { what => 'nothing' },
        { what => 'random names, refused', more => [@flood, 'random', 'flood.test'] },
        { what => 'the same in good names', more => [@flood, 'known', GOOD_NAMES] },
    );
    my @rows = ['besides', 'good/s', 'median ms', '99 % ms', 'refused/s', 'failed', 'children CPU s',
        'private MB'];
    for my $run (@runs) {
        my @children = $server->children;
        my $before = cpu_seconds(@children);
        my $more = $run->{more} ? pace(@{ $run->{more} }) : undef;
        my $good = $run->{good} = paced(pace(@good));
        $run->{other} = $more ? paced($more) : { refused => 0, failed => 0 };
        my $private = 0;
        $private += memory($_)->{private} for @children;
        $run->{private} = $private;
        push @rows, [$run->{what}, sprintf('%.1f', $good->{ok} / $flood_seconds),
            milliseconds($good->{median}), milliseconds($good->{slow}),
            sprintf('%.0f', $run->{other}{refused} / $flood_seconds),
            $good->{failed} + $good->{refused} + $run->{other}{failed},
            sprintf('%.1f', cpu_seconds(@children) - $before), sprintf('%.1f', $private)];
    }
    table('Good handshakes, ' . GOOD_RATE . " a second offered, for $flood_seconds s, and "
            . FLOOD_RATE . ' a second of others besides', @rows);

    my ($alone, $flooded) = @runs;
    my $kept = $flooded->{good}{ok} / $alone->{good}{ok};
    report(sprintf 'a flood leaves %.0f %% of the good handshakes (goal: at least %.0f %%); '
            . '%d names were refused', 100 * $kept, 100 * KEEP_MIN, $flooded->{other}{refused});
    cmp_ok $kept, '>=', KEEP_MIN, 'good handshakes in a flood';
    is $_->{good}{failed} + $_->{good}{refused}, 0, "good handshakes, besides $_->{what}: none fails"
        for @runs;
    cmp_ok $flooded->{other}{refused}, '>', 0, 'random names are refused';
    is $flooded->{other}{ok} + $flooded->{other}{failed}, 0, 'all of them, with unrecognized_name';
    is $pebble->orders, 0, 'nothing was ordered';
    stop_run({ server => $server, pebble => $pebble });
    return;
}

measure_single();
measure_all_many();
measure_flood();

done_testing;
