# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# "make install DESTDIR=..." installs what a2enmod understands, and a copy of the
# machine's own httpd configuration passes "-t" with the module enabled in it. Nothing
# outside the scratch directory is touched.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Cwd ();
use File::Find ();
use File::Path ();

use Autocert::Server;
use Autocert::Util qw(build_dir run_program slurp spit);

use constant MAKE_SECONDS => 200;

my $top = Cwd::abs_path(build_dir() . '/..');
my $work = Autocert::Server::work_dir();
my $dest = "$work/dest";
my $modules = Autocert::Server::modules_dir();
my $sysconf = apxs_value('SYSCONFDIR');
my $include = apxs_value('INCLUDEDIR');

sub apxs_value
{
    my ($name) = @_;
    my ($status, $text) = run_program([Autocert::Server::vars()->{apxs}, '-q', $name]);
    my ($value) = $text =~ m{^(/\S+)$}m;
    die "apxs -q $name: $text" if $status || !defined $value;
    return $value;
}

sub make
{
    my (@arguments) = @_;
    return run_program(['make', '-C', $top, '--no-print-directory', @arguments, "DESTDIR=$dest"],
        seconds => MAKE_SECONDS);
}

sub files_below
{
    my ($dir) = @_;
    my @found;
    File::Find::find({ no_chdir => 1, wanted => sub {
        push @found, s/^\Q$dir\E//r if -f;
    } }, $dir);
    @found = sort @found;
    return \@found;
}

# --- make install ---

File::Path::make_path($dest);
my ($status, $output) = make('install');
is $status, 0, 'make install' or diag $output;
my $load = "$sysconf/mods-available/autocert.load";
my $conf = "$sysconf/mods-available/autocert.conf";
is_deeply files_below($dest),
    [sort "$modules/mod_autocert.so", "$include/mod_autocert.h", $load, $conf],
    'installs the module, its header and the two files for a2enmod, and nothing else';
is slurp("$dest$load"), "# Depends: ssl socache_shmcb\nLoadModule autocert_module $modules/mod_autocert.so\n",
    'autocert.load names what it depends on and where the module is';
is slurp("$dest$modules/mod_autocert.so"), slurp("$top/build/mod_autocert.so"),
    'the module is the one that was built';
is slurp("$dest$include/mod_autocert.h"), slurp("$top/src/mod_autocert.h"), 'the header too';
is sprintf('%04o', (stat "$dest$_")[2] & 07777), '0644', "$_ can be read by all"
    for "$modules/mod_autocert.so", "$include/mod_autocert.h", $load, $conf;
like slurp("$dest$conf"), qr/AutocertAcceptTOS/, 'autocert.conf shows how to begin';
unlike slurp("$dest$conf"), qr/^\s*[^#\s]/m, 'but turns nothing on';

spit("$dest$conf", "AutocertAcceptTOS on\n");
($status, $output) = make('install');
is $status, 0, 'make install again' or diag $output;
is slurp("$dest$conf"), "AutocertAcceptTOS on\n", 'keeps a changed autocert.conf';

# --- a2enmod, in a copy ---

my $copy = "$work/apache2";
my $state = "$work/state";
File::Path::make_path($state, "$work/run", "$work/log");
# Only what every installation has is taken over: files, and which modules and sites are enabled.
($status, $output) = run_program(['cp', '-R', '--no-dereference', $sysconf, $copy]);
is $status, 0, 'a copy of the configuration' or diag $output;
# What this machine may have enabled by itself is not what is tested.
unlink glob "$copy/mods-enabled/{autocert,ssl,socache_shmcb}.*";
for my $file ('autocert.load', 'autocert.conf') {
    my $text = slurp("$dest$sysconf/mods-available/$file");
    # The machine's own module directory has no such module.
    $text =~ s/\Q$modules\E/$dest$modules/;
    spit("$copy/mods-available/$file", $text);
}
my %env = (
    APACHE_CONFDIR => $copy, APACHE_STATE_DIRECTORY => $state, APACHE_ENVVARS => "$copy/envvars",
    APACHE_RUN_USER => Autocert::Server::vars()->{user}, APACHE_RUN_GROUP => Autocert::Server::vars()->{group},
    APACHE_PID_FILE => "$work/run/apache2.pid", APACHE_RUN_DIR => "$work/run",
    APACHE_LOCK_DIR => "$work/run", APACHE_LOG_DIR => "$work/log",
);
my ($a2enmod) = grep { -x } map { "$_/a2enmod" } split(/:/, $ENV{PATH}), '/usr/sbin';
die "a2enmod is missing (package apache2)\n" unless defined $a2enmod;
my $machine = listing($sysconf);

sub listing
{
    my ($dir) = @_;
    my %found;
    File::Find::find({ no_chdir => 1, wanted => sub {
        $found{$_} = join ' ', (lstat $_)[2, 7, 9, 10], readlink($_) // '';
    } }, $dir);
    return \%found;
}

($status, $output) = run_program([$a2enmod, 'autocert'], env => \%env);
is $status, 0, 'a2enmod autocert' or diag $output;
for my $name ('autocert.load', 'autocert.conf', 'ssl.load', 'ssl.conf', 'socache_shmcb.load') {
    ok -e "$copy/mods-enabled/$name", "it enables $name" or diag $output;
}
is_deeply listing($sysconf), $machine, 'the configuration of the machine is untouched';
ok -e "$state/module/enabled_by_admin/autocert", 'a2enmod kept its notes in the scratch directory';

sub configtest
{
    return run_program([Autocert::Server::vars()->{httpd}, '-d', $copy, '-f', "$copy/apache2.conf", '-t'],
        env => \%env);
}

my @said = configtest();
is $said[0], 0, 'httpd -t passes with the module enabled' or diag $said[1];
like $said[1], qr/^Syntax OK$/m, 'as it says';

spit("$copy/sites-enabled/autocert-test.conf", <<"CONF");
AutocertCache dir:$work/cache
<VirtualHost *:443>
    AutocertDomain www.example.org
</VirtualHost>
CONF
@said = configtest();
is $said[0], 0, 'and with a site that uses it' or diag $said[1];
# ports.conf listens on 443 as soon as mod_ssl is there; autocert.conf accepts the terms.
unlike $said[1], qr/\bAC00\d\d:/, 'without an error or a warning of the module';
spit("$copy/sites-enabled/autocert-test.conf", "AutocertListener www.example.org\n");
@said = configtest();
is $said[0], 0, 'and with AutocertListener alone' or diag $said[1];

# --- make uninstall ---

($status, $output) = make('uninstall');
is $status, 0, 'make uninstall' or diag $output;
is_deeply files_below($dest), [$conf], 'leaves the changed autocert.conf alone';
unlink "$dest$conf";
make('install');
make('uninstall');
is_deeply files_below($dest), [], 'and nothing at all when it was not changed';

done_testing;
